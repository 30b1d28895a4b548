"""Numba kernels: arrays in, arrays out. Nothing here imports torch or faiss, and of fastent only leaves: errors, processors."""
