"""Rendering a stranger's chat template where it can neither hang nor exhaust this process."""

import contextlib
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from adapters_store import template_worker
from adapters_store.errors import ChatTemplateFailed

CPU_SECONDS: Final = 1.0
"""CPU time that one rendering may take, compiling included."""

# Wall time, for a worker that the system does not run at all: far beyond its CPU time on a busy machine.
_WALL_SECONDS: Final = 20.0
_SPARE_CHARS: Final = 256 * 1024


class TemplateProcess:
    """One worker process, started when first needed and again after it was ended. Usable from several threads.

    The worker has no environment, no files of ours and 512 MiB of address space; a rendering that takes more than
    `CPU_SECONDS` ends it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: socket.socket | None = None

    def render(self, template: str, context: Mapping[str, Any]) -> str:
        """The text that a template writes of the variables in `context`, which must be JSON.

        The text may have 256 Ki characters more than four times those of `context`.

        Raises:
            ChatTemplateFailed: it does not compile, refuses, fails, or takes too much time, memory or text.
            OSError: no process can be started.
        """
        limit = 4 * len(json.dumps(context, ensure_ascii=False)) + _SPARE_CHARS
        request = {"template": template, "context": context, "limit": limit, "cpu_seconds": CPU_SECONDS}
        with self._lock:
            reply = self._ask(json.dumps(request).encode())
        error = reply.get("error")
        if error is not None:
            raise ChatTemplateFailed(f"the chat template {error}")
        return str(reply["text"])

    @property
    def worker_pid(self) -> int | None:
        """The worker's process id, None while there is none."""
        process = self._process
        return None if process is None else process.pid

    def kill(self) -> None:
        """End what the worker is at, without waiting for it; the `render` that waits for it fails."""
        process = self._process
        if process is not None:
            process.kill()

    def close(self) -> None:
        """End the worker. A later `render` starts another."""
        with self._lock:
            self._end()

    def __enter__(self) -> "TemplateProcess":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ask(self, request: bytes) -> dict[str, Any]:
        connection = self._connected()
        deadline = time.monotonic() + _WALL_SECONDS
        try:
            connection.settimeout(_WALL_SECONDS)
            connection.sendall(len(request).to_bytes(template_worker.LENGTH_BYTES, "big") + request)
            size = int.from_bytes(_exactly(connection, template_worker.LENGTH_BYTES, deadline), "big")
            reply: dict[str, Any] = json.loads(_exactly(connection, size, deadline))
        except (OSError, EOFError):
            self._end()
            raise ChatTemplateFailed(
                f"the chat template took more than {CPU_SECONDS:g} s of computing, or all its memory, and was cut"
            ) from None
        except BaseException:
            self._end()
            raise
        return reply

    def _connected(self) -> socket.socket:
        if self._process is not None and self._process.poll() is not None:
            self._end()
        if self._connection is None:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    self._process = subprocess.Popen(  # noqa: S603 -- our own file, by our own interpreter
                        [sys.executable, "-I", str(Path(template_worker.__file__))],
                        stdin=theirs.fileno(),
                        stdout=subprocess.DEVNULL,
                        stderr=subprocess.DEVNULL,
                        cwd="/",
                        env={},
                        start_new_session=True,
                    )
                except BaseException:
                    ours.close()
                    raise
            self._connection = ours
        return self._connection

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            with contextlib.suppress(OSError):
                self._process.kill()
            self._process.wait()
        self._connection = self._process = None


def _exactly(connection: socket.socket, size: int, deadline: float) -> bytes:
    """Raises EOFError where the worker is gone, TimeoutError at the deadline (of `time.monotonic`)."""
    received = bytearray()
    while len(received) < size:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection.settimeout(left)
        chunk = connection.recv(min(size - len(received), 1 << 20))
        if not chunk:
            raise EOFError
        received += chunk
    return bytes(received)
