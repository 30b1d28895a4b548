"""fastent: how tangled are the classes in a network's representations, where, and since when?

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

from fastent.version import __version__ as __version__

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
