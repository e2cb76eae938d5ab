"""The open requests of an engine, as the event loop sees them."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable

from server.engine.messages import Event, Failed, FailureCode, Report, RequestEvent, Tokens

_log = logging.getLogger(__name__)


class QueuedGeneration:
    """A `Generation` fed through an unbounded queue: at most one event a token."""

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._events: asyncio.Queue[RequestEvent] = asyncio.Queue()
        self._cancel = cancel
        self.ended = False

    def put(self, event: RequestEvent) -> None:
        self._events.put_nowait(event)

    def __aiter__(self) -> AsyncIterator[RequestEvent]:
        return self

    async def __anext__(self) -> RequestEvent:
        if self.ended:
            raise StopAsyncIteration
        event = await self._events.get()
        self.ended = is_terminal(event)
        return event

    def cancel(self) -> None:
        if not self.ended:
            self.ended = True
            self._cancel()


def is_terminal(event: RequestEvent) -> bool:
    """Does nothing follow this event?"""
    return isinstance(event, Failed) or (isinstance(event, Tokens) and event.finish_reason is not None)


class OpenGenerations:
    """Hands each event of the engine to the request it belongs to; reports go to the observer."""

    def __init__(self) -> None:
        self._open: dict[str, QueuedGeneration] = {}
        self._observer: Callable[[Report], None] | None = None

    def observe(self, observer: Callable[[Report], None]) -> None:
        self._observer = observer

    def open(self, request_id: str, cancel: Callable[[], None]) -> QueuedGeneration:
        """Begin a request. Its `cancel` is called at most once, and no event follows it."""

        def close() -> None:
            if self._open.pop(request_id, None) is not None:
                cancel()

        generation = self._open[request_id] = QueuedGeneration(close)
        return generation

    def route(self, event: Event) -> None:
        """Deliver one event; those of requests that were given up are dropped."""
        if isinstance(event, RequestEvent):
            generation = self._open.get(event.request_id)
            if generation is not None:
                generation.put(event)
                if is_terminal(event):
                    del self._open[event.request_id]
        elif self._observer is not None and isinstance(event, Report):
            try:
                self._observer(event)
            except Exception:  # metrics must never cost a request its answer
                _log.exception("a report could not be observed")

    def fail_all(self, code: FailureCode, message: str) -> None:
        """End every open request, because its engine is gone."""
        for request_id in list(self._open):
            self.route(Failed(request_id=request_id, code=code, message=message))

    def __len__(self) -> int:
        return len(self._open)
