"""Rooms traced by numba on one CPU core. `tiles` puts together what `culling`, `hits`, `surfaces`, `lighting` do.

float32, tile by tile of a picture, so small that all about it stays in the fastest cache. What is known of a tile's
rays stands in one flat array, `tile`, at the places that `rows` names. Loops over rays read and write that alone,
without branches, so that the compiler works on 8 or 16 rays at once. Fast arithmetic knows neither infinity nor NaN:
FAR stands for what is never reached.

Importing the modules in here imports numba, so `traced` does it when a room is rendered.
"""
