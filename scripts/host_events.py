"""The messages of a running ComfyUI's websocket: which node runs, and how far it is."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable

from environment import SetUpError


class Events:
    """Collects the messages to one client id in a thread, from the start until the host ends.

    Each is {'type': ..., 'data': {...}}. The previews, which are binary, are left out.
    """

    def __init__(self, url: str, client: str):
        """Raises SetUpError when the host at the url does not accept the connection within 30 seconds."""
        self._queue: queue.SimpleQueue[dict] = queue.SimpleQueue()
        connected = threading.Event()
        address = f"{url}/ws?clientId={client}"
        threading.Thread(target=asyncio.run, args=(self._receive(address, connected),), daemon=True).start()
        if not connected.wait(timeout=30):
            raise SetUpError(f"ComfyUI does not accept a websocket at {address}; a firewall may stand between")

    def hand_on(self, prompt_id: str, on_event: Callable[[dict], None] | None, seconds: float) -> None:
        """Calls on_event with each message about a graph, until its last one or until none is left and time is over."""
        end = time.monotonic() + seconds
        with contextlib.suppress(queue.Empty):
            while True:
                event = self._queue.get(timeout=max(0.0, end - time.monotonic()))
                if event["data"].get("prompt_id") != prompt_id:
                    continue
                if on_event:
                    on_event(event)
                if event["type"] == "executing" and event["data"]["node"] is None:  # the history is written by now
                    return

    async def _receive(self, address: str, connected: threading.Event) -> None:
        import aiohttp  # in the environment through the host's requirements

        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as messages:
            connected.set()
            async for message in messages:
                if message.type is aiohttp.WSMsgType.TEXT:
                    self._queue.put(message.json())
