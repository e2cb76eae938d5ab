"""The engine on a thread of this process: for tests and for embedding. Same `Engine` as over the socket."""

import asyncio
import threading
from collections.abc import Callable

from server.config import Settings
from server.engine.build import BuiltEngine, build_engine
from server.engine.generation import OpenGenerations
from server.engine.interface import EngineStatus, Generation
from server.engine.messages import Cancel, Event, Forecast, ModelInfo, Report, Stop, Submit, Unload
from server.errors import EngineUnavailable


class InProcessEngine:
    """Builds the engine on its own thread, which then runs the loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._generations = OpenGenerations()
        self._status: EngineStatus = "starting"
        self._built: BuiltEngine | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False

    @property
    def status(self) -> EngineStatus:
        return self._status

    @property
    def info(self) -> ModelInfo:
        return self._ready().info

    @property
    def restarts(self) -> int:
        """Always 0: a thread that died stays dead."""
        return 0

    @property
    def built(self) -> BuiltEngine:
        """The loop itself, for tests that look inside."""
        return self._ready()

    async def start(self) -> None:
        loop = asyncio.get_running_loop()
        started: asyncio.Future[BuiltEngine] = loop.create_future()

        def route(events: list[Event]) -> None:
            for event in events:
                self._generations.route(event)

        def deliver(events: list[Event]) -> None:
            loop.call_soon_threadsafe(route, events)

        def run() -> None:
            try:
                built = build_engine(self._settings, deliver=deliver)
            except Exception as error:
                loop.call_soon_threadsafe(started.set_exception, error)
                return
            loop.call_soon_threadsafe(started.set_result, built)
            try:
                built.loop.run()
            finally:
                loop.call_soon_threadsafe(self._ended)

        self._thread = threading.Thread(target=run, name="engine", daemon=True)
        self._thread.start()
        self._built = await started
        self._status = "ready"

    async def stop(self) -> None:
        self._stopping = True
        if self._built is not None and self._thread is not None:
            self._built.loop.send(Stop())
            await asyncio.to_thread(self._thread.join)
        self._ended()

    def submit(self, request: Submit) -> Generation:
        loop = self._ready().loop
        generation = self._generations.open(
            request.request_id, lambda: loop.send(Cancel(request_id=request.request_id))
        )
        loop.send(request)
        return generation

    def unload(self, digest: str) -> None:
        self._ready().loop.send(Unload(digest=digest))

    def foretell(self, forecast: Forecast) -> None:
        if self._status == "ready":
            self._ready().loop.send(forecast)

    def observe(self, observer: Callable[[Report], None]) -> None:
        self._generations.observe(observer)

    def _ended(self) -> None:
        self._status = "stopped" if self._stopping else "failed"
        self._generations.fail_all("engine_unavailable", "the engine has stopped")

    def _ready(self) -> BuiltEngine:
        if self._built is None or self._status != "ready":
            raise EngineUnavailable("the engine is not running")
        return self._built
