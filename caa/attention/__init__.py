"""Correspondence-aware attention: the plain way, the fast way, and the kernels."""
