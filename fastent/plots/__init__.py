"""Primitives of pictures with matplotlib, which is imported when something is drawn: arrays and labels in, artists on axes."""
