"""Numba kernels: arrays in, arrays out. Nothing here imports fastent, torch or faiss."""
