"""The engine in a process of its own, seen from the API process. Imports no torch.

A crash of the engine ends the open requests with an error and is followed by a restart, not by an outage.
"""

import asyncio
import logging
import shutil
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

import msgspec
import zmq
import zmq.asyncio

from server.config import Settings, environment_without_settings
from server.engine.generation import OpenGenerations
from server.engine.interface import EngineStatus, Generation
from server.engine.messages import (
    Cancel,
    Command,
    Event,
    Forecast,
    ModelInfo,
    Ready,
    Report,
    StartFailed,
    Stop,
    Submit,
    Unload,
)
from server.errors import BaseModelError, ConfigurationError, EngineUnavailable, SwitchyardError

_log = logging.getLogger(__name__)

_RESTART_PERIOD = 600.0
_STOP_GRACE = 15.0
_WATCH_SECONDS = 1.0
_START_ERRORS: dict[str, type[SwitchyardError]] = {
    "base_model_error": BaseModelError,
    "configuration_error": ConfigurationError,
    "internal_error": SwitchyardError,
}


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """What the engine process is told on its standard input. `settings` is JSON, without secrets."""

    settings: str
    commands_address: str
    events_address: str


class _Incarnation:
    """One engine process with the sockets to it."""

    def __init__(self, process: asyncio.subprocess.Process, commands: zmq.asyncio.Socket, events: zmq.asyncio.Socket):
        self.process = process
        self.commands = commands
        self.events = events

    def close(self) -> None:
        self.commands.close(linger=0)
        self.events.close(linger=0)


class ProcessEngine:
    """Starts the engine process, restarts it when it dies, and routes its events.

    Args:
        settings: the server's settings; at most `engine_restart_limit` restarts within ten minutes.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._generations = OpenGenerations()
        self._status: EngineStatus = "starting"
        self._info: ModelInfo | None = None
        self._incarnation: _Incarnation | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._restarts: deque[float] = deque()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(list[Event])
        self._context = zmq.asyncio.Context()
        self._runtime = Path(tempfile.mkdtemp(prefix="switchyard-"))
        self._spawned = 0
        self._heard = 0.0
        self.restarts = 0

    @property
    def status(self) -> EngineStatus:
        return self._status

    @property
    def info(self) -> ModelInfo:
        if self._info is None:
            raise EngineUnavailable("the engine is still loading the base model")
        return self._info

    @property
    def process_id(self) -> int | None:
        """The engine process, while there is one."""
        return self._incarnation.process.pid if self._incarnation else None

    async def start(self) -> None:
        incarnation = await self._spawn()
        self._supervisor = asyncio.create_task(self._supervise(incarnation))

    async def stop(self) -> None:
        self._status = "stopped"
        try:
            if self._incarnation is not None:
                self._send(Stop())
                await self._ended(self._incarnation.process)
            if self._supervisor is not None:
                self._supervisor.cancel()
                await asyncio.gather(self._supervisor, return_exceptions=True)
        finally:
            self._generations.fail_all("engine_unavailable", "the server is shutting down")
            self._context.destroy(linger=0)
            shutil.rmtree(self._runtime, ignore_errors=True)

    async def _ended(self, process: asyncio.subprocess.Process) -> None:
        """Let a process that was told to stop say its last words; kill it if it does not end."""
        try:
            await asyncio.wait_for(process.wait(), _STOP_GRACE)
            if self._supervisor is not None:
                await asyncio.wait({self._supervisor}, timeout=1.0)
        except TimeoutError:
            process.kill()

    def submit(self, request: Submit) -> Generation:
        if self._status != "ready":
            raise EngineUnavailable(f"the engine is {self._status}; try again shortly")
        if not len(self._generations):
            self._heard = time.monotonic()
        generation = self._generations.open(
            request.request_id, lambda: self._send(Cancel(request_id=request.request_id))
        )
        self._send(request)
        return generation

    def unload(self, digest: str) -> None:
        if self._status == "ready":
            self._send(Unload(digest=digest))

    def foretell(self, forecast: Forecast) -> None:
        if self._status == "ready":
            self._send(forecast)

    def observe(self, observer: Callable[[Report], None]) -> None:
        self._generations.observe(observer)

    def _send(self, command: Command) -> None:
        """Queue a command; the socket's queue is unbounded, since admission bounds the requests."""
        if self._incarnation is not None:
            self._incarnation.commands.send(self._encoder.encode(command))

    async def _spawn(self, patience: float | None = None) -> _Incarnation:
        """Start a process and wait until its model is loaded."""
        self._spawned += 1
        commands = self._bind(zmq.PUSH, f"commands-{self._spawned}")
        events = self._bind(zmq.PULL, f"events-{self._spawned}")
        process: asyncio.subprocess.Process | None = None
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-P",  # a module of the same name in the working directory must not run in the server's place
                "-m",
                "server.engine.process",
                stdin=asyncio.subprocess.PIPE,
                env=environment_without_settings(),
            )
            incarnation = _Incarnation(process, commands, events)
            self._launch(incarnation)
            self._info = await self._first_word(incarnation, patience)
        except BaseException:
            commands.close(linger=0)
            events.close(linger=0)
            if process is not None:
                if process.returncode is None:
                    process.kill()
                await process.wait()
            raise
        self._incarnation = incarnation
        self._status = "ready"
        return incarnation

    def _launch(self, incarnation: _Incarnation) -> None:
        """Tell a new process what to serve and where to speak."""
        launch = Launch(
            settings=self._settings.model_dump_json(exclude={"api_key", "host"}),
            commands_address=_address(incarnation.commands),
            events_address=_address(incarnation.events),
        )
        assert incarnation.process.stdin is not None
        incarnation.process.stdin.write(msgspec.json.encode(launch) + b"\n")

    def _bind(self, kind: int, name: str) -> zmq.asyncio.Socket:
        socket = self._context.socket(kind)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.RCVHWM, 0)
        socket.bind(f"ipc://{self._runtime / name}")
        return socket

    async def _first_word(self, incarnation: _Incarnation, patience: float | None) -> ModelInfo:
        """`Ready`, unless the process refuses, dies, or says nothing for `patience` seconds."""
        receive = asyncio.ensure_future(incarnation.events.recv())
        died = asyncio.ensure_future(incarnation.process.wait())
        done, _ = await asyncio.wait({receive, died}, timeout=patience, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            receive.cancel()
            died.cancel()
            raise SwitchyardError(f"the engine process was not ready within {patience:g} s")
        if not receive.done():
            # A process that refused to start may end before its last word has been read.
            await asyncio.wait({receive}, timeout=1.0)
        if not receive.done():
            receive.cancel()
            raise SwitchyardError(f"the engine process ended with status {died.result()} before it was ready")
        died.cancel()
        match self._decoder.decode(receive.result())[0]:
            case Ready(info=info):
                return info
            case StartFailed(code=code, message=message):
                raise _START_ERRORS[code](message)
            case other:
                raise SwitchyardError(f"the engine's first word was {type(other).__name__}")

    async def _supervise(self, incarnation: _Incarnation) -> None:
        """Route events until the process ends; then start another, unless it was told to stop."""
        try:
            while True:
                await self._route_until_death(incarnation)
                self._incarnation = None
                incarnation.close()
                if self._status == "stopped":
                    return
                status = incarnation.process.returncode
                _log.error("the engine process died with status %s; open requests: %d", status, len(self._generations))
                self._status = "restarting"
                self._generations.fail_all(
                    "engine_unavailable", "the engine died while it worked on this request; send it again"
                )
                restarted = await self._restart()
                if restarted is None:
                    return
                incarnation = restarted
        finally:
            if self._status != "stopped":
                self._status = "failed"
            self._generations.fail_all("engine_unavailable", "the engine is gone")

    async def _restart(self) -> _Incarnation | None:
        """Try until an engine is ready; None once the limit is reached."""
        while True:
            now = time.monotonic()
            while self._restarts and now - self._restarts[0] > _RESTART_PERIOD:
                self._restarts.popleft()
            if len(self._restarts) >= self._settings.engine_restart_limit:
                _log.critical("the engine died %d times within ten minutes: giving up", len(self._restarts) + 1)
                return None
            await asyncio.sleep(min(10.0, 0.1 * 4 ** len(self._restarts)))
            self._restarts.append(now)
            self.restarts += 1
            try:
                return await self._spawn(self._settings.engine_restart_timeout)
            except Exception:  # whatever stops one try (no memory, no file descriptors) may have passed at the next
                _log.exception("the engine did not restart")

    async def _route_until_death(self, incarnation: _Incarnation) -> None:
        died = asyncio.ensure_future(incarnation.process.wait())
        self._heard = time.monotonic()
        while True:
            receive = asyncio.ensure_future(incarnation.events.recv())
            while not receive.done() and not died.done():
                await asyncio.wait({receive, died}, timeout=_WATCH_SECONDS, return_when=asyncio.FIRST_COMPLETED)
                self._kill_if_stalled(incarnation.process)
            if not receive.done():
                # What the process said before it died is still delivered.
                await asyncio.wait({receive}, timeout=0.2)
            if not receive.done():
                receive.cancel()
                return
            self._heard = time.monotonic()
            for event in self._decoder.decode(receive.result()):
                self._generations.route(event)

    def _kill_if_stalled(self, process: asyncio.subprocess.Process) -> None:
        """An engine that has requests speaks with every step; a long silence means that it hangs."""
        silent = time.monotonic() - self._heard
        if len(self._generations) and silent > self._settings.engine_stall_timeout and process.returncode is None:
            _log.error("the engine has said nothing for %.0f s although it has requests: killing it", silent)
            process.kill()


def _address(socket: zmq.asyncio.Socket) -> str:
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)
