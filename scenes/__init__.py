"""Rendered rooms: seeded procedural scenes with pictures, captions, exact depth and poses. Plain torch, no host.

Axes, units and pixel centres are those of `geometry`: up is -y, lengths are in metres. A room's floor is y = 0, and its
middle x = z = 0.
"""
