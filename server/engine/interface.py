"""The one interface by which the API reaches an engine, whatever process that engine lives in."""

from collections.abc import AsyncIterator, Callable
from typing import Literal, Protocol

from server.engine.messages import Forecast, ModelInfo, Report, RequestEvent, Submit

EngineStatus = Literal["starting", "ready", "restarting", "stopped", "failed"]
"""`stopped`: told to; `failed`: ended for good by itself."""


class Generation(Protocol):
    """The events of one request, in order: `Started` first (or `Failed`), then `Tokens`, the last terminal."""

    def __aiter__(self) -> AsyncIterator[RequestEvent]: ...

    async def __anext__(self) -> RequestEvent: ...

    def cancel(self) -> None:
        """Give the request up. Harmless after its end; no further event need be read."""


class Engine(Protocol):
    """A running engine. Methods are called from one asyncio event loop."""

    @property
    def status(self) -> EngineStatus: ...

    @property
    def info(self) -> ModelInfo:
        """The resident model.

        Raises:
            EngineUnavailable: before the first start has ended.
        """

    @property
    def restarts(self) -> int:
        """How often the engine had to be started again."""

    async def start(self) -> None:
        """Load the model and return once requests are taken.

        Raises:
            BaseModelError, ConfigurationError: the engine cannot start with these settings.
        """

    async def stop(self) -> None:
        """End the engine; every open generation ends with `Failed` or a cancellation."""

    def submit(self, request: Submit) -> Generation:
        """Hand a request over.

        Raises:
            EngineUnavailable: the engine is not ready.
        """

    def unload(self, digest: str) -> None:
        """Drop a version's device copy once it is idle."""

    def foretell(self, forecast: Forecast) -> None:
        """Tell the engine what will be asked for; an engine that is not ready never hears of it."""

    def observe(self, observer: Callable[[Report], None]) -> None:
        """Call `observer` with every report of the engine, on the event loop. One observer, set before `start`."""
