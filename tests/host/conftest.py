"""The demo model, and what must be refused before a step of it is sampled."""

from __future__ import annotations

import comfy_nodes
import pytest


@pytest.fixture(scope="module")
def demo(comfy):
    return comfy_nodes.demo()


@pytest.fixture
def refused(demo, monkeypatch):
    """`refused(match, **changes)`: Multi-View KSampler with these changes says `match`, before the UNet runs."""

    def refused(match: str, **changes) -> None:
        def no_step(*args, **kwargs):
            pytest.fail("a step was sampled")

        monkeypatch.setattr(type(demo.model.model), "apply_model", no_step)
        with pytest.raises(ValueError, match=match):
            demo.sample(**changes)

    return refused
