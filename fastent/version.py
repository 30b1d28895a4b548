"""The version, for what is written to disk."""

__all__ = ["__version__"]

__version__ = "0.1.0"
