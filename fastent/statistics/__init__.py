"""One file for each family of statistics."""
