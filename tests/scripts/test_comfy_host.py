from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from comfy_host import (
    VERSION,
    ExecutionError,
    HostError,
    PromptError,
    Server,
    find_comfyui,
    host_environment,
    host_version,
    install_comfyui,
)
from environment import ROOT, SetUpError
from throwaway_pack import graph, write_pack


def make_comfyui(folder: Path) -> Path:
    (folder / "comfy").mkdir(parents=True)
    (folder / "comfy" / "__init__.py").touch()
    (folder / "main.py").touch()
    (folder / "folder_paths.py").touch()
    return folder


def make_repository(folder: Path) -> Path:
    """The folder as a git repository with the tag that install_comfyui clones."""
    author = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in (["init", "-q"], ["add", "."], [*author, "commit", "-q", "-m", "x"], ["tag", f"v{VERSION}"]):
        subprocess.run(["git", *command], cwd=folder, check=True)
    return folder


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the pack would stand in a ComfyUI, on a machine that has none yet."""
    monkeypatch.setattr(Path, "home", lambda: tmp_path / "home")
    monkeypatch.delenv("COMFYUI_PATH", raising=False)
    clone = tmp_path / "host" / "custom_nodes" / "pack"
    clone.mkdir(parents=True)
    return clone


PLACES = ["given", "host", "home/ComfyUI", "home/comfy/ComfyUI", "host/custom_nodes/pack/.comfyui"]


@pytest.mark.parametrize("first", range(len(PLACES)))
def test_hosts_are_found_in_order(first: int, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hosts = [make_comfyui(tmp_path / place) for place in PLACES[first:]]
    if first == 0:
        monkeypatch.setenv("COMFYUI_PATH", str(hosts[0]))
    assert find_comfyui(clone) == hosts[0]


def test_no_host(clone: Path):
    assert find_comfyui(clone) is None


@pytest.mark.parametrize("lacking", ["main.py", "folder_paths.py", "comfy"])
def test_comfyui_path_without_comfyui_is_an_error(lacking: str, clone: Path, monkeypatch: pytest.MonkeyPatch):
    host = make_comfyui(clone / "somewhere")
    (host / lacking).rename(host / "renamed")
    monkeypatch.setenv("COMFYUI_PATH", str(host))
    with pytest.raises(SetUpError, match=r"COMFYUI_PATH is .*somewhere, but there is no ComfyUI"):
        find_comfyui(clone)


def test_install_clones_the_release(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    repository = make_repository(make_comfyui(tmp_path / "repository"))
    (repository / "main.py").write_text("later than the release")
    monkeypatch.setenv("MVDIFFUSION_COMFYUI_GIT", repository.as_uri())
    host = install_comfyui(clone)
    assert (host / "main.py").read_text() == ""
    assert find_comfyui(clone) == host


def test_install_replaces_what_an_interrupted_one_left(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    make_comfyui(clone / ".comfyui" / "part")
    monkeypatch.setenv("MVDIFFUSION_COMFYUI_GIT", make_repository(make_comfyui(tmp_path / "repository")).as_uri())
    assert not (install_comfyui(clone) / "part").exists()


def test_install_refuses_a_repository_without_comfyui(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "readme").touch()
    monkeypatch.setenv("MVDIFFUSION_COMFYUI_GIT", make_repository(tmp_path / "repository").as_uri())
    with pytest.raises(SetUpError, match="there is no ComfyUI there"):
        install_comfyui(clone)


def test_failed_install_says_what_to_do(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MVDIFFUSION_COMFYUI_GIT", (tmp_path / "nothing").as_uri())
    with pytest.raises(SetUpError, match=r"could not be cloned \(.*\): install ComfyUI .* and set COMFYUI_PATH"):
        install_comfyui(clone)


def test_install_without_git_says_what_to_do(clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SetUpError, match=r"git is not installed: install ComfyUI .* and set COMFYUI_PATH"):
        install_comfyui(clone)


def test_prompt_error_names_every_problem():
    errors = [{"message": "too small", "details": "width"}, {"message": "too big", "details": "height"}]
    error = PromptError({"error": None, "node_errors": {"1": {"errors": errors}}})
    assert str(error) == "too small width; too big height"


@pytest.mark.server
def test_host_runs_a_graph(server: Server):
    entry = server.wait(server.queue(graph()))
    (image,) = entry["outputs"]["3"]["images"]
    assert server.view(**image).startswith(b"\x89PNG")


@pytest.mark.server
def test_events_tell_the_progress(server: Server):
    events = []
    server.wait(server.queue(graph(width=66, steps=3)), events.append)
    values = [event["data"]["value"] for event in events if event["type"] == "progress"]
    assert values == [1, 2, 3]


@pytest.mark.server
def test_graphs_may_be_awaited_in_any_order(server: Server):
    first, second = server.queue(graph(width=68)), server.queue(graph(width=70))
    ended = [server.wait(prompt_id)["prompt"][1] for prompt_id in (second, first)]
    assert ended == [second, first]


@pytest.mark.server
def test_extra_data_reaches_the_host(server: Server):
    entry = server.wait(server.queue(graph(width=72), {"extra_pnginfo": {"workflow": {"a": 1}}}))
    assert entry["prompt"][3]["extra_pnginfo"] == {"workflow": {"a": 1}}


@pytest.mark.server
def test_invalid_graph_is_a_prompt_error(server: Server):
    with pytest.raises(PromptError, match="width") as raised:
        server.queue(graph(width=0))
    assert raised.value.answer["node_errors"]["1"]["class_type"] == "EmptyImage"


@pytest.mark.server
def test_unknown_node_is_a_prompt_error(server: Server):
    with pytest.raises(PromptError, match="NoSuchNode"):
        server.queue({"1": {"class_type": "NoSuchNode", "inputs": {}}})


@pytest.mark.server
def test_partly_invalid_graph_is_a_prompt_error(server: Server):
    invalid = {"class_type": "SaveImage", "inputs": {"filename_prefix": "image"}}
    with pytest.raises(PromptError, match="images"):
        server.queue({**graph(), "4": invalid})


@pytest.mark.server
def test_failing_node_is_an_execution_error(server: Server):
    with pytest.raises(ExecutionError) as raised:
        server.wait(server.queue(graph(steps=0)))
    assert (raised.value.node_type, raised.value.message) == ("MVDiffusionKSampler", "steps is 0")


@pytest.mark.server
def test_interrupt_ends_a_run(server: Server):
    threading.Timer(1, server.interrupt).start()
    with pytest.raises(ExecutionError, match="interrupted"):
        server.wait(server.queue(graph(steps=500)), timeout=30)


@pytest.mark.server
def test_wait_ends_at_its_timeout(server: Server):
    prompt_id = server.queue(graph(steps=501))
    with pytest.raises(TimeoutError, match="did not end within 1 s"):
        server.wait(prompt_id, timeout=1)
    server.interrupt()


@pytest.mark.server
def test_only_the_pack_is_loaded_and_once(server: Server, pack: Path):
    log = server.log.read_text(encoding="utf-8")
    assert not (pack.parent / "imported").exists()
    assert len([line for line in log.splitlines() if "seconds" in line and line.endswith(str(pack))]) == 1


@pytest.mark.server
def test_environment_has_the_web_pages_that_the_host_pins(server: Server):
    environment = {**os.environ, **host_environment(server.host)}
    question = "import importlib.metadata; print(importlib.metadata.version('comfyui-frontend-package'))"
    answer = subprocess.run([sys.executable, "-c", question], env=environment, capture_output=True, text=True).stdout
    requirements = (server.host / "requirements.txt").read_text(encoding="utf-8").splitlines()
    assert f"comfyui-frontend-package=={answer.strip()}" in requirements


@pytest.mark.server
def test_version_is_the_hosts_own(server: Server):
    assert server.get("system_stats")["system"]["comfyui_version"] == host_version(server.host)


@pytest.mark.server
def test_all_is_written_into_the_work_folder(server: Server):
    (image,) = server.wait(server.queue(graph(width=74)))["outputs"]["3"]["images"]
    assert (server.workdir / "output" / image["filename"]).exists()
    assert (server.workdir / "user" / "comfyui.db").exists()


@pytest.mark.server
def test_weights_folder_is_the_hosts(server: Server):
    assert server.get("models/mvdiffusion") == ["a.safetensors"]


@pytest.mark.server
def test_pack_that_cannot_be_loaded_is_reported(tmp_path: Path):
    pack = write_pack(tmp_path / "packs" / "broken", "import nonsense")
    with pytest.raises(HostError, match=r"could not load the pack(.|\n)*No module named 'nonsense'"):
        Server(find_comfyui(), pack, workdir=tmp_path / "host").start()


@pytest.mark.server
def test_host_that_does_not_start_is_reported(tmp_path: Path):
    server = Server(find_comfyui(), None, workdir=tmp_path, extra_args=["--no-such-option"])
    with pytest.raises(HostError, match=r"ended \(code 2\)(.|\n)*unrecognized arguments: --no-such-option"):
        server.start()


# Ctrl-C is heard also where the tests run in the background of a shell, which ignores it for them.
STARTS_A_SERVER = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.path.insert(0, sys.argv[1])
from comfy_host import Server, find_comfyui
with Server(find_comfyui(), None, workdir=Path(sys.argv[2])):
    time.sleep(60)
"""


def processes_of(folder: Path) -> list[psutil.Process]:
    """Running processes that have the folder on their command line."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        command = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(folder) in part for part in command):
            found.append(process)
    return found


@pytest.mark.server
@pytest.mark.once
@pytest.mark.skipif(os.name == "nt", reason="Windows has no such signals")
def test_ctrl_c_leaves_no_process(tmp_path: Path):
    command = [sys.executable, "-c", STARTS_A_SERVER, str(ROOT / "scripts"), str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    end = time.monotonic() + 30
    while len(processes_of(tmp_path)) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    assert len(processes_of(tmp_path)) == 2
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=30) != 0
    assert processes_of(tmp_path) == []
