"""The client's end of one answer: whether it is still there, and still reads."""

import asyncio
from collections.abc import Callable
from types import TracebackType

from starlette.types import Message, Receive, Send

# A client that takes nothing for so long, while more waits to be sent, is given up.
STALLED_SECONDS = 60.0


class ClientConnection:
    """Sends to the client, and calls `on_gone` once when it closes the connection or stops reading.

    A context manager; it watches while it is entered. The request's body must have been read.
    """

    def __init__(self, receive: Receive, send: Send, on_gone: Callable[[], None]) -> None:
        self._receive = receive
        self._send = send
        self._on_gone = on_gone
        self._loop = asyncio.get_running_loop()
        self._sending_since: float | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "ClientConnection":
        self._watcher = self._loop.create_task(self._watch())
        self._timer = self._loop.call_later(STALLED_SECONDS / 4, self._check)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stop()

    async def send(self, message: Message) -> None:
        """Send one message; waits while the client does not read."""
        self._sending_since = self._loop.time()
        await self._send(message)
        self._sending_since = None

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._gone()

    def _check(self) -> None:
        since = self._sending_since
        if since is not None and self._loop.time() - since > STALLED_SECONDS:
            self._gone()
        else:
            self._timer = self._loop.call_later(STALLED_SECONDS / 4, self._check)

    def _gone(self) -> None:
        self._stop()
        self._on_gone()

    def _stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
        if self._timer is not None:
            self._timer.cancel()
