"""Equirectangular panoramas: views cut from them, joined to them, blended, laid over."""
