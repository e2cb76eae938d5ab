"""`switchyard serve`: the HTTP server, with the engine in a process beside it."""

import asyncio
import contextlib
import difflib
import logging
import math
import os
import signal
import socket
from collections.abc import Iterator

import uvicorn

from adapters_store import AdapterStore, Limits
from server.api.app import create_app
from server.commands.failure import CommandFailed
from server.commands.output import Output
from server.config import Settings, unknown_variables
from server.engine.interface import Engine
from server.engine.remote import ProcessEngine
from server.errors import SwitchyardError
from server.logs import configure_logs

logger = logging.getLogger(__name__)

# Seconds that connections are given to send what the engine's end left them to say.
_FAREWELL_SECONDS = 5
# Longer than a proxy keeps an idle connection, so that it is never the server that closes one under a request.
_KEEP_ALIVE_SECONDS = 75


class _Server(uvicorn.Server):
    """A server for which SIGTERM and SIGINT are a normal end; a second SIGINT does not wait.

    Requests that still run after `grace` seconds are ended through the engine, so that their clients are told.
    """

    def __init__(self, config: uvicorn.Config, engine: Engine, grace: float) -> None:
        super().__init__(config)
        self._engine = engine
        self._grace = grace

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        async def end_requests() -> None:
            await asyncio.sleep(self._grace)
            await self._engine.stop()

        ending = asyncio.create_task(end_requests())
        await super().shutdown(sockets)
        ending.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def run_server(settings: Settings, output: Output) -> None:
    """Serve until a signal comes.

    Raises:
        CommandFailed: the address cannot be bound, or the store cannot be opened.
        SwitchyardError: the engine could not start, or died for good.
    """
    configure_logs(settings.log_level)
    for name in unknown_variables():
        near = difflib.get_close_matches(name, [f"SWITCHYARD_{known.upper()}" for known in Settings.model_fields], n=1)
        output.warning(f"{name} is no setting of this server" + (f"; did you mean {near[0]}?" if near else ""))
    failures: list[SwitchyardError] = []

    def end(failure: SwitchyardError) -> None:
        failures.append(failure)
        server.should_exit = True

    with _listener(settings.host, settings.port) as listener:
        engine = ProcessEngine(settings)
        app = create_app(settings, engine, _open_store(settings), on_failure=end)
        server = _Server(
            uvicorn.Config(
                app,
                log_config=None,
                access_log=False,
                server_header=False,
                ws="none",
                timeout_keep_alive=_KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=math.ceil(settings.shutdown_grace) + _FAREWELL_SECONDS,
            ),
            engine,
            settings.shutdown_grace,
        )
        url = _url(listener)
        output.result({"url": url}, f"Listening on {url}")
        server.run(sockets=[listener])
    if failures:
        raise failures[0]


def _listener(host: str, port: int) -> socket.socket:
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except OSError as error:
        raise CommandFailed(
            f"cannot listen on {host}:{port}: {_reason(error)}; choose another --host or --port"
        ) from error


def _reason(error: OSError) -> str:
    """The system's words alone: `create_server` adds the address to them; a resolver's errors have their own."""
    if error.errno is None or isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    return os.strerror(error.errno)


def _open_store(settings: Settings) -> AdapterStore:
    limits = Limits(max_rank=settings.max_rank, max_bytes=settings.max_upload_bytes)
    try:
        return AdapterStore(settings.store, limits=limits)
    except OSError as error:
        raise CommandFailed(f"cannot open the store {settings.store}: {error.strerror or error}") from error


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
