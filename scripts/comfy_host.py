"""ComfyUI, the pack's host: found or installed, started as a server that leaves nothing behind, and talked to."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import host_process
from environment import ROOT, SetUpError, install_differing, last_lines
from host_events import Events

VERSION = "0.33.0"
GIT = "https://github.com/comfyanonymous/ComfyUI"
HOW_TO_GET_COMFYUI = "install ComfyUI (https://docs.comfy.org/installation) and set COMFYUI_PATH to its folder"
START_TIMEOUT = 300
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy cannot reach this machine's loopback


class HostError(SetUpError):
    """ComfyUI did not start, did not load the pack, or ended; the message closes with the end of its log."""


class PromptError(RuntimeError):
    """The host refused a graph; `answer` is what it said, parsed."""

    def __init__(self, answer: dict):
        self.answer = answer
        problems = [answer["error"]] if answer.get("error") else []
        problems += [error for node in answer.get("node_errors", {}).values() for error in node["errors"]]
        super().__init__("; ".join(f"{problem['message']} {problem['details']}".strip() for problem in problems))


class ExecutionError(RuntimeError):
    """A node of a queued graph failed, or the run was interrupted."""

    def __init__(self, node_type: str, message: str):
        self.node_type = node_type
        self.message = message
        super().__init__(f"{node_type}: {message}")


def find_comfyui(root: Path = ROOT) -> Path | None:
    """COMFYUI_PATH, else the ComfyUI that `root` is installed in, else one in the usual places, else None.

    Raises:
        SetUpError: COMFYUI_PATH is set but holds no ComfyUI.
    """
    given = os.environ.get("COMFYUI_PATH")
    if given:
        return checked_host(Path(given), "COMFYUI_PATH")
    places = [Path.home() / "ComfyUI", Path.home() / "comfy" / "ComfyUI", root / ".comfyui"]
    if root.parent.name == "custom_nodes":
        places.insert(0, root.parent.parent)
    return next((place for place in places if _holds_comfyui(place)), None)


def checked_host(path: Path, origin: str) -> Path:
    """The path made absolute; SetUpError that names its origin when there is no ComfyUI there."""
    path = path.expanduser().absolute()
    if not _holds_comfyui(path):
        raise SetUpError(f"{origin} is {path}, but there is no ComfyUI there (main.py, folder_paths.py, comfy/)")
    return path


def install_comfyui(root: Path = ROOT) -> Path:
    """Clones the tested release into `root`/.comfyui; MVDIFFUSION_COMFYUI_GIT names another repository to clone."""
    target = root / ".comfyui"
    source = os.environ.get("MVDIFFUSION_COMFYUI_GIT", GIT)
    print(f"no ComfyUI found: cloning {VERSION} from {source} ...", flush=True)
    shutil.rmtree(target, ignore_errors=True)
    command = ["git", "clone", "--quiet", "--depth=1", f"--branch=v{VERSION}", source, str(target)]
    try:
        done = subprocess.run(command, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    except FileNotFoundError:
        raise SetUpError("git is not installed: " + HOW_TO_GET_COMFYUI) from None
    if done.returncode:
        reason = done.stderr.strip().splitlines()[-1]
        raise SetUpError(f"ComfyUI could not be cloned ({reason}): {HOW_TO_GET_COMFYUI}")
    return checked_host(target, "The clone of " + source)


def host_version(host: Path) -> str:
    """The release that the host says it is, such as 0.33.0."""
    text = (host / "comfyui_version.py").read_text(encoding="utf-8")
    return re.search(r'__version__ = "([^"]+)"', text)[1]


def host_environment(host: Path) -> dict[str, str]:
    """Variables for a process that runs this host in `.venv`.

    `.venv` follows one host. Packages that another one pins to another version (its web pages foremost), or that are
    missing, are installed without their dependencies into .hosts/VERSION, which then comes first on PYTHONPATH.
    """
    variables = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8", "HF_HUB_OFFLINE": "1"}
    # torch's threads spin while they wait: on a busy machine that was seen to make a stitch 30 times slower.
    variables["OMP_WAIT_POLICY"] = "PASSIVE"
    folder = ROOT / ".hosts" / host_version(host)
    if install_differing(host / "requirements.txt", folder):
        variables["PYTHONPATH"] = str(folder)
    return variables


class Server:
    """One ComfyUI on a free loopback port; use it as a context manager.

    All that the host writes goes into `workdir`. Of custom nodes it loads only the pack in the folder `root` (None:
    not even that). `weights` is one more folder where it looks for MVDiffusion files.

    Attributes:
        url: http://127.0.0.1:PORT without a slash at the end.
        log: the file that takes the host's output.
    """

    def __init__(
        self,
        host: Path,
        root: Path | None = ROOT,
        *,
        workdir: Path,
        cpu: bool = True,
        extra_args: Sequence[str] = (),
        weights: Path | None = None,
    ):
        self.host = host
        self.pack = root.absolute() if root else None
        self.workdir = workdir.absolute()
        self.cpu = cpu
        self.extra_args = list(extra_args)
        self.weights = weights.absolute() if weights else None
        self.log = self.workdir / "host.log"
        self.url = ""
        self._client = uuid.uuid4().hex
        self._events: Events | None = None
        self._process: subprocess.Popen | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Starts the host and returns when it answers.

        Raises:
            HostError: it ended instead, or could not load the pack.
        """
        port = _free_port()
        arguments = self._arguments(port)
        environment = {**os.environ, **host_environment(self.host)}
        self.url = f"http://127.0.0.1:{port}"
        self._process = host_process.start(self.host / "main.py", arguments, self.workdir, environment, self.log)
        try:
            self._await_answer()
            self._check_pack()
            self._events = Events(self.url, self._client)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Ends the host with every process that it started. May be called at any time, more than once too."""
        if self._process:
            host_process.end(self._process)
            self._process = None

    def get(self, path: str) -> dict:
        """The parsed answer of one of the host's routes, such as 'object_info/KSampler'."""
        return json.loads(self._fetch(path))

    def queue(self, prompt: dict, extra_data: dict | None = None) -> str:
        """Queues a graph in API form and returns its prompt id.

        Raises:
            PromptError: the host found the graph, or a part of it, invalid.
        """
        content = {"prompt": prompt, "client_id": self._client, "extra_data": extra_data or {}}
        try:
            answer = json.loads(self._fetch("prompt", content))
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise PromptError(json.load(error)) from None
        if answer["node_errors"]:
            raise PromptError(answer)
        return answer["prompt_id"]

    def wait(self, prompt_id: str, on_event: Callable[[dict], None] | None = None, timeout: float = 600) -> dict:
        """Waits, at most `timeout` seconds, until a queued graph has run; returns the host's history entry of it.

        `on_event` is called with every message of the host's websocket about the graph: {'type': ..., 'data': {...}}.

        Raises:
            ExecutionError: a node failed, or the run was interrupted.
            HostError: the host ended.
            TimeoutError: it took longer; the graph still runs then.
        """
        deadline = time.monotonic() + timeout
        while (entry := self._history(prompt_id)) is None:
            self._events.hand_on(prompt_id, on_event, seconds=1)
            self._check_alive()
            if time.monotonic() > deadline:
                raise TimeoutError(f"graph {prompt_id} did not end within {timeout:.0f} s")
        self._events.hand_on(prompt_id, on_event, seconds=0)
        if entry["status"]["status_str"] == "error":
            raise _execution_error(entry["status"]["messages"])
        return entry

    def view(self, filename: str, subfolder: str = "", type: str = "output") -> bytes:
        """The content of a file that a node has written, named as the history entry names it."""
        query = urllib.parse.urlencode({"filename": filename, "subfolder": subfolder, "type": type})
        return self._fetch(f"view?{query}")

    def interrupt(self) -> None:
        """Asks the host to end the graph that runs now."""
        self._fetch("interrupt", {})

    def _arguments(self, port: int) -> list[str]:
        for folder in ("custom_nodes", "input", "models", "output", "user"):
            (self.workdir / folder).mkdir(parents=True, exist_ok=True)
        database = f"sqlite:///{(self.workdir / 'user' / 'comfyui.db').as_posix()}"
        arguments = ["--listen", "127.0.0.1", "--port", str(port), "--disable-auto-launch", "--disable-api-nodes"]
        arguments += ["--base-directory", str(self.workdir), "--database-url", database]
        arguments += ["--extra-model-paths-config", str(self._extra_paths()), "--disable-all-custom-nodes"]
        if self.pack:
            arguments += ["--whitelist-custom-nodes", self.pack.name]
        return arguments + (["--cpu"] if self.cpu else []) + self.extra_args

    def _extra_paths(self) -> Path:
        """Writes the host's extra paths file; JSON, which YAML contains, needs no rules for quoting paths."""
        folders = {"custom_nodes": self.pack.parent if self.pack else None, "mvdiffusion": self.weights}
        file = self.workdir / "extra_model_paths.yaml"
        content = {"mvdiffusion_pack": {key: str(folder) for key, folder in folders.items() if folder}}
        file.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
        return file

    def _await_answer(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT
        while True:
            self._check_alive()
            with contextlib.suppress(OSError):
                self.get("system_stats")
                return
            if time.monotonic() > deadline:
                raise self._error(f"did not answer within {START_TIMEOUT} s")
            time.sleep(0.2)

    def _check_alive(self) -> None:
        if self._process is None or self._process.poll() is not None:
            raise self._error("is not running" if self._process is None else f"ended (code {self._process.returncode})")

    def _check_pack(self) -> None:
        log = self.log.read_text(encoding="utf-8", errors="replace")
        if self.pack and any("(IMPORT FAILED)" in line and str(self.pack) in line for line in log.splitlines()):
            raise self._error(f"could not load the pack in {self.pack}")

    def _error(self, what: str) -> HostError:
        name = f"ComfyUI {host_version(self.host)} in {self.host}"
        return HostError(f"{name} {what}; the end of its log:\n{last_lines(self.log, 40)}")

    def _history(self, prompt_id: str) -> dict | None:
        with contextlib.suppress(OSError):  # it is ending: the caller asks for its process next
            return self.get(f"history/{prompt_id}").get(prompt_id)
        return None

    def _fetch(self, path: str, content: dict | None = None) -> bytes:
        """What a route answers, to a POST when there is content for it."""
        data = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, {"Content-Type": "application/json"})
        with LOCAL.open(request, timeout=60) as answer:
            return answer.read()


def _holds_comfyui(path: Path) -> bool:
    return (path / "main.py").is_file() and (path / "folder_paths.py").is_file() and (path / "comfy").is_dir()


def _execution_error(messages: list) -> ExecutionError:
    """From the messages of a history entry: (event, data) pairs, the last of which says how the run ended."""
    event, data = messages[-1]
    message = data["exception_message"].strip() if event == "execution_error" else "interrupted"
    return ExecutionError(data["node_type"], message)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
