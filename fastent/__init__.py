"""fastent: how tangled are the classes in a network's representations, where, and since when?

Names are imported when they are first used: `import fastent` brings in neither torch nor numba.
"""

import os
import sys

if os.path.basename(sys.argv[0] if sys.argv else "") in ("-m", "fastent"):  # the command: see to Ctrl-C before all else
    from fastent.interrupts import watch_command

    watch_command()

from typing import TYPE_CHECKING

from fastent.errors import FastentError
from fastent.lazy import serve

__version__ = "0.1.0"

if TYPE_CHECKING:
    from fastent import figures
    from fastent.chunks import ArraySource, Source
    from fastent.complexity import Complexity, complexity
    from fastent.covariance import cka, participation_ratio
    from fastent.dimension import IntrinsicDimension, intrinsic_dimension
    from fastent.geometry import ClassGeometry, ClassMoments, geometry
    from fastent.layers import LayerMargins, layer_margins
    from fastent.logits import logit_margin
    from fastent.margins import Margins, margins
    from fastent.measure import measure
    from fastent.measurement import Comparison, Measurement, compare
    from fastent.mixing import Mixing, lisi, mixing
    from fastent.neighbors import Neighbors, neighbors
    from fastent.opening import open_source as open
    from fastent.silhouettes import Silhouettes, silhouette
    from fastent.softnn import SoftNearestNeighbor, soft_nearest_neighbor_loss
    from fastent.streaming.capture import capture
    from fastent.streaming.driver import train_streamed
    from fastent.streaming.model_source import ModelSource
    from fastent.streaming.probe import Probe
    from fastent.streaming.records import ProbeRecords, load_probe
    from fastent.training.data import Data, load_data
    from fastent.training.inversion import Inversion, find_inversion
    from fastent.training.run import Run, load_run
    from fastent.training.train import train

_HOME = {
    "ArraySource": "chunks",
    "Source": "chunks",
    "open": "opening:open_source",
    "Complexity": "complexity",
    "complexity": "complexity",
    "cka": "covariance",
    "participation_ratio": "covariance",
    "figures": "figures:",
    "IntrinsicDimension": "dimension",
    "intrinsic_dimension": "dimension",
    "ClassGeometry": "geometry",
    "ClassMoments": "geometry",
    "geometry": "geometry",
    "LayerMargins": "layers",
    "layer_margins": "layers",
    "logit_margin": "logits",
    "Margins": "margins",
    "margins": "margins",
    "measure": "measure",
    "Comparison": "measurement",
    "Measurement": "measurement",
    "compare": "measurement",
    "Mixing": "mixing",
    "lisi": "mixing",
    "mixing": "mixing",
    "Neighbors": "neighbors",
    "neighbors": "neighbors",
    "Silhouettes": "silhouettes",
    "silhouette": "silhouettes",
    "SoftNearestNeighbor": "softnn",
    "soft_nearest_neighbor_loss": "softnn",
    "Probe": "streaming.probe",
    "ProbeRecords": "streaming.records",
    "load_probe": "streaming.records",
    "capture": "streaming.capture",
    "ModelSource": "streaming.model_source",
    "Data": "training.data",
    "load_data": "training.data",
    "Inversion": "training.inversion",
    "find_inversion": "training.inversion",
    "Run": "training.run",
    "load_run": "training.run",
    "train": "training.train",
    "train_streamed": "streaming.driver",
}

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
    "Margins",
    "Measurement",
    "Mixing",
    "ModelSource",
    "Neighbors",
    "Probe",
    "ProbeRecords",
    "Run",
    "Silhouettes",
    "SoftNearestNeighbor",
    "Source",
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
    "logit_margin",
    "margins",
    "measure",
    "mixing",
    "neighbors",
    "open",
    "participation_ratio",
    "silhouette",
    "soft_nearest_neighbor_loss",
    "train",
    "train_streamed",
]

serve(__name__, _HOME)
