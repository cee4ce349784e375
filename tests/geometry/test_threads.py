"""Work shared out to threads: in order, in the caller's mode, and over as soon as something fails."""

from __future__ import annotations

import threading
import time

import pytest
import torch

from mvdiffusion_pack.geometry.threads import side_by_side


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def test_results_come_in_the_order_of_the_items(threads):
    def work(number: int) -> int:
        time.sleep(0.02 if number == 0 else 0)
        return 10 * number

    assert list(side_by_side(work, range(6))) == [0, 10, 20, 30, 40, 50]


def test_as_many_work_at_once_as_torch_has_threads(threads):
    meeting = threading.Barrier(threads, timeout=10)
    assert len(list(side_by_side(lambda _: meeting.wait(), range(threads)))) == threads


def test_work_is_done_in_the_callers_mode(threads):
    with torch.inference_mode():
        picture = torch.zeros(4)
        list(side_by_side(lambda place: picture[place].fill_(1), range(4)))
    assert picture.tolist() == [1, 1, 1, 1]


def test_nothing_is_begun_after_the_caller_has_stopped(threads):
    begun = []
    results = side_by_side(lambda number: begun.append(number) or time.sleep(0.01), range(200))
    next(results)
    results.close()
    assert len(begun) < 20
