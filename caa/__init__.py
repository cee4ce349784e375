"""Correspondence-aware attention (CAA): the blocks of MVDiffusion, their position codes and their weights. No host."""
