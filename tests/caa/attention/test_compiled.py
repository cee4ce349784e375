"""The door to the kernels: whether they are taken, how they are checked, and what happens if they fail.

Kernels run on a GPU, else in Triton's interpreter (see tests/conftest.py).
"""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Callable

import pytest
import torch
from attention_cases import DEVICE, assert_gradients_agree, attended, block_of, features, gradients
from scattered import depth_like

from mvdiffusion_pack.caa.attention import checking, compiled, fast, passes
from mvdiffusion_pack.caa.attention.tables import Tables
from mvdiffusion_pack.geometry.correspondence import panorama_correspondences
from mvdiffusion_pack.geometry.layouts import ring

CORR = depth_like(3, 3, 2)
TURNED_OFF = "MVDiffusion goes on without Triton's kernels: "


class OnGPU(torch.Tensor):
    is_cuda = True


@pytest.fixture
def kernels(monkeypatch):
    """The kernels, not tried before; the fast attention takes every query for one on a GPU."""
    pytest.importorskip("triton", reason="Triton is not installed here")
    from mvdiffusion_pack.caa.attention import triton_gradients as kernels

    def attend(query, *args):
        result = compiled.attend_compiled(query.as_subclass(OnGPU), *args)
        return None if result is None else result.as_subclass(torch.Tensor)

    monkeypatch.setattr(fast, "attend_compiled", attend)
    monkeypatch.setattr(passes, "attempt", lambda *_: None)  # test_passes.py has those
    monkeypatch.setattr(compiled, "_open", True)
    monkeypatch.setattr(compiled, "_checked", set())
    monkeypatch.setattr(kernels, "_rehearsed", set())
    return kernels


@pytest.fixture
def said(caplog) -> Callable[[], list[str]]:
    """Gives what the log has said of kernels that are turned off."""
    caplog.set_level(logging.WARNING, logger="MVDiffusion")
    return lambda: [record.getMessage().removeprefix(TURNED_OFF) for record in caplog.records]


def x_of(dtype: torch.dtype = torch.float32, width: int = 64, batch: int = 2) -> torch.Tensor:
    return features(batch, 3, width, 3, 3).to(dtype)


def changed(kernels, monkeypatch, change) -> None:
    """Kernels that are wrong: `change` is made to what they give."""
    right = kernels.attend
    monkeypatch.setattr(kernels, "attend", lambda *args: change(right(*args)))


def values(change):
    return lambda given: given._replace(values=change(given.values))


def with_nan(of: torch.Tensor) -> torch.Tensor:
    of = of.clone()
    of[4, 5] = torch.nan
    return of


WRONG = {
    "1 % more": values(lambda of: 1.01 * of),
    "other heads": values(lambda of: of.view(len(of), 2, 32).flip(1).flatten(1)),
    "another panorama": values(lambda of: of.view(2, -1).flip(0).view_as(of)),
    "one query": values(lambda of: torch.cat((of[:-1], 1.1 * of[-1:]))),
    "NaN": values(with_nan),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_kernels_are_refused_and_the_result_is_torchs(kernels, monkeypatch, wrong):
    changed(kernels, monkeypatch, WRONG[wrong])
    assert torch.equal(attended(CORR, x_of()), attended(CORR, x_of(), way="torch"))
    assert not compiled._open


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_the_log_says_by_how_much_they_are_off_and_where(kernels, monkeypatch, said, dtype):
    changed(kernels, monkeypatch, values(lambda of: 1.5 * of))
    for _ in range(2):
        assert torch.equal(attended(CORR, x_of(dtype)), attended(CORR, x_of(dtype), way="torch"))
    (line,) = said()
    name = str(dtype).removeprefix("torch.")
    off, place, allowed = re.fullmatch(r"they are (.*)% off torch's at (.*), where (.*)% are allowed", line).groups()
    assert float(off) == pytest.approx(50, abs=1) and place == f"{name}, width 64, 1 samples"
    assert float(allowed) == {"float32": 0.01, "float16": 0.2, "bfloat16": 0.8}[name]


def test_right_kernels_are_checked_once_for_each_dtype_and_width(kernels, monkeypatch, said):
    checked, check = [], compiled.check
    monkeypatch.setattr(
        compiled, "check", lambda of, *args: checked.append((of.dtype, of.shape[1])) or check(of, *args)
    )
    for x in (x_of(), x_of(), x_of(batch=1), x_of(torch.float16), x_of(torch.float16), x_of(width=32)):
        attended(CORR, x)
    assert checked == [(torch.float32, 64), (torch.float16, 64), (torch.float32, 32)]
    assert said() == []


def test_kernels_are_checked_again_when_queries_had_nothing_to_show(kernels):
    """Features that are no numbers, and rings too narrow to overlap."""
    attended(CORR, torch.full_like(x_of(), torch.nan))
    narrow = panorama_correspondences(ring(4, 30, 64, 64), 2, 2)
    attended(narrow, features(1, 4, 64, 2, 2).float())
    assert compiled._open and not compiled._checked


def learned(way: str, x: torch.Tensor) -> dict[str, torch.Tensor]:
    return gradients(block_of(64, torch.float32).to(DEVICE), x.to(DEVICE), Tables(CORR, way=way))


# In the order in which they are given; codes' centred vectors have none.
OF = {"pixels": 0, "keys": 1, "values": 2, "codes' keys": 4, "codes' values": 5, "queries": 6}


@pytest.mark.thorough
@pytest.mark.parametrize("of", OF)
def test_wrong_gradients_are_found_out_in_the_forward_pass(kernels, monkeypatch, said, of):
    right = kernels.gradients

    def wrong(*args, **how):
        found = list(right(*args, **how))
        found[OF[of]] = 1.1 * found[OF[of]]
        return tuple(found)

    monkeypatch.setattr(kernels, "gradients", wrong)
    assert_gradients_agree(learned("auto", x_of()), learned("torch", x_of()), 1e-6)
    assert not compiled._open
    (line,) = said()
    assert line.startswith("their gradients are 10.") and "float32, width 64, 1 samples" in line


@pytest.mark.thorough
def test_right_gradients_are_checked_once(kernels, monkeypatch, said):
    made, check = [], checking.GradientsCheck
    monkeypatch.setattr(kernels, "GradientsCheck", lambda *args: made.append(1) or check(*args))
    for _ in range(2):
        learned("auto", x_of())
    assert made == [1] and said() == []


def test_gradients_are_not_compiled_for_sampling(kernels, monkeypatch):
    monkeypatch.setattr(kernels, "gradients", broken)
    attended(CORR, x_of())
    assert compiled._open and compiled._checked


def test_the_way_torch_leaves_kernels_alone(monkeypatch):
    monkeypatch.setattr(fast, "attend_compiled", lambda *_: pytest.fail("kernels were asked"))
    attended(CORR, x_of(), way="torch")


# Errors.


def broken(*_, **__):
    raise RuntimeError("no such device\nsecond line")


def test_what_does_not_run_is_one_line_in_the_log(kernels, monkeypatch, said):
    monkeypatch.setattr(kernels, "attend", broken)
    for _ in range(2):
        assert torch.equal(attended(CORR, x_of()), attended(CORR, x_of(), way="torch"))
    assert said() == ["they could not be launched here: no such device"]


def does_not_compile(out):
    out + nothing  # noqa: F821


def test_what_does_not_compile_is_said_to_be_that(kernels, monkeypatch, said):
    compiler = pytest.importorskip("triton.compiler")
    from triton.backends.compiler import GPUTarget
    from triton.runtime.jit import JITFunction

    source = compiler.ASTSource(JITFunction(does_not_compile), {"out": "*fp32"}, {})
    monkeypatch.setattr(kernels, "attend", lambda *_: compiler.compile(source, target=GPUTarget("cuda", 80, 32)))
    attended(CORR, x_of())
    (line,) = said()
    assert line.startswith("they could not be compiled here: ") and "nothing is not defined" in line


def test_gradients_that_do_not_run_are_found_out_in_the_forward_pass(kernels, monkeypatch, said):
    monkeypatch.setattr(kernels, "gradients", broken)
    assert_gradients_agree(learned("auto", x_of()), learned("torch", x_of()), 1e-6)
    assert said() == ["they could not be launched here: no such device"]


def test_a_triton_that_cannot_be_imported_is_said_to_be_that(kernels, monkeypatch, said):
    name = kernels.__name__
    monkeypatch.delattr(sys.modules[name.rpartition(".")[0]], "triton_gradients")
    monkeypatch.setitem(sys.modules, name, None)
    attended(CORR, x_of())
    (line,) = said()
    assert line.startswith("Triton could not be imported: ")


def test_running_out_of_memory_is_no_reason_to_close_the_door(kernels, monkeypatch):
    def out_of_memory(*_):
        raise torch.cuda.OutOfMemoryError("out of memory")

    monkeypatch.setattr(kernels, "attend", out_of_memory)
    with pytest.raises(torch.cuda.OutOfMemoryError):
        attended(CORR, x_of())
    assert compiled._open
