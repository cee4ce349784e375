"""Posed sequences: frames of recorded or estimated depth, the layouts of their folders, windows over them."""
