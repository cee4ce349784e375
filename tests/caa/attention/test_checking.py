"""A few queries of a batch by themselves; test_compiled.py has what the comparison with kernels leads to."""

from __future__ import annotations

import torch
from attention_cases import assert_agree, features

from mvdiffusion_pack.caa.attention.checking import QUERIES, Few
from mvdiffusion_pack.caa.attention.headwise import attend_piece
from mvdiffusion_pack.caa.attention.projected import Projected
from mvdiffusion_pack.caa.attention.tables import Tables
from mvdiffusion_pack.geometry.correspondence import panorama_correspondences
from mvdiffusion_pack.geometry.layouts import ring


def test_few_queries_attend_to_what_they_would_among_all_and_read_little():
    tables = Tables(panorama_correspondences(ring(8, 90, 256, 256), 32, 32))
    maps = [features(2, 8, 32, 32, 32, seed=seed) for seed in range(4)]
    whole, reads = tables.whole(maps[0].flatten(0, 1)), tables.reads(maps[0])
    query, pixels = maps[0].view(-1, 32), Projected(*(one.view(-1, 32) for one in maps[1:]))
    codes = Projected(*(features(*reads.valid.shape, 32, seed=seed) for seed in range(4, 7)))

    few = Few.of(query, reads)
    found = attend_piece(*few.maps(pixels, codes), query[few.asked], few.piece, 1e-5)
    assert_agree(found, attend_piece(pixels, codes, query, whole, 1e-5)[few.asked], 1e-12)
    assert len(few.asked) == QUERIES and len(few.pixel) + len(few.code) < 60 * QUERIES
    view, place = few.asked // 1024, few.asked % 1024
    assert len(view.unique()) == 16 and len((place % 32).unique()) > 16 and len((place // 32).unique()) > 16
    assert torch.equal(few.asked, few.asked.unique())
