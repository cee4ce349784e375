"""The host's real front end in headless Chromium, with WebGL in software."""

from __future__ import annotations

import contextlib
import re
import shutil
import struct
from collections.abc import Iterator

import pytest

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
QUIET = [f"--disable-{feature}" for feature in ("background-networking", "component-update", "sync", "gpu", "quic")]
WEBGL = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
# What the front end itself writes into the console: a new user has no files yet, its search for models may not leave
# the page, its veil is taken away twice when graphs follow each other quickly, and 0.3.64 counts its graphs wrongly.
OWN_ERRORS = re.compile(
    r"Failed to load resource: [^\n]* 404 [^\n]*/(user\.css|favicon\.ico|api/userdata[/?][^\n]*)"
    r"|(Connecting to|Fetch API cannot load) '?https://huggingface\.co/[^\n]*/assets/[^\n]*"
    r"|NotFoundError: [^\n]* 'removeChild' [^\n]*\n *at Proxy\.removeMask [^\n]*/vendor-primevue.*"
    r"|Attempted to cleanup event listeners for graph that was never set up [^\n]*/assets/GraphView[^\n]*",
    re.DOTALL,
)
READY = """() => document.querySelector("#graph-canvas") && window.app?.extensionManager
    && "MVDiffusionKSampler" in (window.LiteGraph?.registered_node_types ?? {})"""

browser_tests = [
    pytest.mark.server,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium found: install it to test the graphs in a browser"),
]


@contextlib.contextmanager
def chromium() -> Iterator:
    """A browser of Playwright; skips the test where there is no Playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    with playwright.sync_playwright() as started:
        arguments = ["--no-first-run", *QUIET, *WEBGL]
        browser = started.chromium.launch(executable_path=CHROMIUM, args=arguments, chromium_sandbox=False)
        yield browser
        browser.close()


def new_page(browser):
    """A page for `open_front_end`.

    Its `errors` collects the exceptions that nobody caught in it and the errors in its console, its `previews` the
    files of all live previews.
    """
    page = browser.new_page(viewport={"width": 1600, "height": 900})
    page.errors, page.previews = [], []
    page.on("pageerror", lambda error: page.errors.append(str(error)))
    page.on("console", lambda message: _keep_error(page.errors, message))
    page.on("websocket", lambda socket: socket.on("framereceived", lambda data: _collect(page.previews, data)))
    return page


def _keep_error(errors: list[str], message) -> None:
    text = f"{message.text} {message.location['url']}"
    if message.type == "error" and not OWN_ERRORS.fullmatch(text):
        errors.append(text)


def _collect(previews: list[bytes], data: str | bytes) -> None:
    """Adds the picture of a message of the host: of kind 1 after 8 bytes, of kind 4 after 8 and as many as they say."""
    if isinstance(data, bytes):
        kind, length = struct.unpack(">II", data[:8])
        if kind in (1, 4):
            previews.append(data[8 + (length if kind == 4 else 0) :])


def open_front_end(page, url: str) -> None:
    """Opens the front end of the host at `url` and waits until it knows the pack's nodes."""
    page.goto(url, timeout=120_000)  # on a busy machine a page of its own takes longer than the usual 30 seconds
    page.wait_for_function(READY, timeout=60_000)
