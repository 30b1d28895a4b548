"""fastent: how tangled are the classes in a network's representations, where, and since when?

    import fastent as fe

Stored activations      fe.measure(X, labels): all statistics at once; fe.compare, to set several side by side
                        fe.neighbors, and of these fe.mixing, fe.lisi, fe.intrinsic_dimension
                        fe.margins, fe.silhouette, fe.soft_nearest_neighbor_loss, fe.geometry, fe.complexity
                        fe.participation_ratio, fe.cka; fe.logit_margin and fe.layer_margins, of networks
                        fe.near_duplicates, fe.manifold_capacity, fe.map_points; fe.write_report, of any result
Several layers          fe.neighbor_overlap, fe.overlap_matrix, fe.prediction_depth; fe.trajectory, of many checkpoints
A training loop         fe.Probe(model, loader, layers), called at each epoch; fe.load_probe, fe.log_to
                        fe.capture(model, loader, layers, out): activations to disk; fe.open, to read them
Networks trained here   fe.train(data), fe.train_streamed(X, labels): many seeds at once; fe.load_data, fe.load_run
                        fe.stragglers(run), one by one
                        fe.find_inversion, of any curve; fastent.experiments, fe.figures: the source paper's claims

help(fe.measure), and so on, have the parameters of each and an example. The command `fastent --help` is for shells.

Names are imported when they are first used: `import fastent` brings in neither torch nor numba.
"""

import os
import sys

if not os.path.isdir(os.path.join(os.path.dirname(__file__), "kernels")):  # in a clone they lie beside this folder
    __path__.append(os.path.dirname(os.path.dirname(__file__)))

if os.path.basename(sys.argv[0] if sys.argv else "") in ("-m", "fastent"):  # the command: see to Ctrl-C before all else
    from fastent.runtime.interrupts import watch_command

    watch_command()

import lazy_loader

import fastent.processors  # noqa: F401 (it keeps OMP_NUM_THREADS as it is now)
from fastent.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
