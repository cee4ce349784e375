"""Weights of CAA: what kinds there are, and how files are read and written."""
