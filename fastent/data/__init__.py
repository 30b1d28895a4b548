"""Data sets by name, on disk or in memory, as training takes them."""
