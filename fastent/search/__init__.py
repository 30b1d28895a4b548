"""Exact nearest neighbours and sweeps over all pairs."""
