"""The public names, and where each is; they are imported when they are first used."""

from .activations.capture import capture
from .activations.layer_margins import LayerMargins, layer_margins
from .activations.model_source import ModelSource
from .activations.probe import Probe
from .activations.records import ProbeRecords, load_probe
from .activations.trajectory import Trajectory, trajectory
from .data.training_set import Data, load_data
from .errors import FastentError
from .experiments import figures
from .integrations.loggers import log_to
from .io.opening import open
from .io.sources import ArraySource, Source
from .measurement.comparison import Comparison, compare
from .measurement.measure import measure
from .measurement.result import Measurement
from .report.writing import write_report
from .search.found_duplicates import NearDuplicates
from .search.found_neighbors import Neighbors
from .search.near_duplicates import near_duplicates
from .search.neighbors import neighbors
from .statistics.class_geometry import ClassGeometry
from .statistics.class_moments import ClassMoments
from .statistics.complexity import Complexity, complexity
from .statistics.covariance import cka, participation_ratio
from .statistics.geometry import geometry
from .statistics.intrinsic_dimension import IntrinsicDimension, intrinsic_dimension
from .statistics.inversion import Inversion, find_inversion
from .statistics.manifold_capacity import ManifoldCapacity, manifold_capacity
from .statistics.margins import Margins, logit_margin, margins
from .statistics.mixing import Mixing, lisi, mixing
from .statistics.neighbor_overlap import NeighborOverlap, OverlapMatrix, neighbor_overlap, overlap_matrix
from .statistics.point_map import PointMap, map_points
from .statistics.prediction_depth import PredictionDepth, prediction_depth
from .statistics.silhouette import Silhouettes, silhouette
from .statistics.soft_nearest_neighbor import SoftNearestNeighbor, soft_nearest_neighbor_loss
from .training.run import Run, load_run
from .training.straggler_list import Stragglers
from .training.stragglers import stragglers
from .training.train import train
from .training.train_streamed import train_streamed
from .version import __version__

__all__ = [
    "ArraySource",
    "ClassGeometry",
    "ClassMoments",
    "Comparison",
    "Complexity",
    "Data",
    "FastentError",
    "IntrinsicDimension",
    "Inversion",
    "LayerMargins",
    "ManifoldCapacity",
    "Margins",
    "Measurement",
    "Mixing",
    "ModelSource",
    "NearDuplicates",
    "NeighborOverlap",
    "Neighbors",
    "OverlapMatrix",
    "PointMap",
    "PredictionDepth",
    "Probe",
    "ProbeRecords",
    "Run",
    "Silhouettes",
    "SoftNearestNeighbor",
    "Source",
    "Stragglers",
    "Trajectory",
    "__version__",
    "capture",
    "cka",
    "compare",
    "complexity",
    "figures",
    "find_inversion",
    "geometry",
    "intrinsic_dimension",
    "layer_margins",
    "lisi",
    "load_data",
    "load_probe",
    "load_run",
    "log_to",
    "logit_margin",
    "manifold_capacity",
    "map_points",
    "margins",
    "measure",
    "mixing",
    "near_duplicates",
    "neighbor_overlap",
    "neighbors",
    "open",
    "overlap_matrix",
    "participation_ratio",
    "prediction_depth",
    "silhouette",
    "soft_nearest_neighbor_loss",
    "stragglers",
    "train",
    "train_streamed",
    "trajectory",
    "write_report",
]
