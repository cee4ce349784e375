"""Rooms traced by numba, on one CPU core: `tiles.trace`, whose parts are `hits` and `surfaces`.

float32, tile by tile of a picture: one stays in the fastest cache. All that is known of a tile's rays stands in one flat
array, `tile`, at the places that `rows` names. Loops over rays read and write that alone, without branches, so that the
compiler works on 8 or 16 rays at once. `fastmath` knows neither infinity nor NaN: FAR stands for what is never reached.

Importing the modules in here imports numba; `scenes.traced` does when a room is rendered.
"""
