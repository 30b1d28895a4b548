"""The claims of the source paper as experiments: each a function that returns a frozen result with verdict, table and plot."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
