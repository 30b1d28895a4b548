"""Representations that stream: from a live model, to disk and back, over many machines."""
