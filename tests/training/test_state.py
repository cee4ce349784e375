"""The state on disk: whole or not at all, whatever happens while it is written."""

from __future__ import annotations

import errno

import pytest
import torch
from safetensors import SafetensorError

from mvdiffusion_pack.training.state import SaveError, States, read_tensors, write_tensors

TENSORS = {"a": torch.arange(3.0), "b": torch.ones(2, 2)}


def test_newest_state_replaces_the_older_one(tmp_path):
    states = States(tmp_path / "run")
    assert states.newest() is None and states.info() is None
    for step in (5, 100, 99999999):
        states.save(step, {"losses": [0.1]}, {"a.safetensors": write_tensors(TENSORS)})
        assert [path.name for path in states.folder.iterdir()] == [f"step_{step:08}"]
        assert states.info()["step"] == step
    assert torch.equal(read_tensors(states.newest() / "a.safetensors")["b"], TENSORS["b"])


FULL = SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), FULL, OSError(errno.EACCES, "denied")]
)
def test_full_disk_leaves_the_older_state_and_says_so_in_one_sentence(tmp_path, error):
    states = States(tmp_path)
    states.save(5, {}, {"a.safetensors": write_tensors(TENSORS)})

    def write(path) -> None:
        path.write_bytes(b"half of it")
        raise error

    with pytest.raises(SaveError) as raised:
        states.save(6, {}, {"a.safetensors": write_tensors(TENSORS), "b.safetensors": write})
    text = str(raised.value)
    reason = "denied" if "denied" in str(error) else "the disk is full"
    assert "the state after step 6 cannot be saved" in text and reason in text and "step_00000005 is kept" in text
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000005"]
    assert states.info()["step"] == 5


def test_what_a_killed_process_left_unfinished_goes_with_the_next_state(tmp_path):
    (tmp_path / "unfinished_123").mkdir()
    (tmp_path / "unfinished_123" / "a.safetensors").write_bytes(b"half")
    states = States(tmp_path)
    assert states.newest() is None
    states.save(1, {}, {})
    assert [path.name for path in tmp_path.iterdir()] == ["step_00000001"]


def test_folder_that_takes_no_state_is_named(tmp_path):
    (tmp_path / "run").touch()
    with pytest.raises(SaveError, match=r"^no state can be saved to .*run: .*\w\.$"):
        States(tmp_path / "run").check_writable()


def test_folder_that_takes_states_stays_as_it_is(tmp_path):
    states = States(tmp_path / "run")
    states.check_writable()
    assert list(states.folder.iterdir()) == []
