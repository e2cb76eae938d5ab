"""One answer, delivered to one client: whole or as a stream, to its end or to the client's."""

import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from server.api.client_connection import ClientConnection
from server.api.errors import error_object, internal_error_object
from server.api.formats.answer_format import AnswerFormat
from server.api.generation.choice import Choice
from server.api.generation.gathering import gathered
from server.api.generation.interleaving import interleaved
from server.api.generation.large_answers import answer_entries, apart, scored_entries
from server.api.generation.origin import origin_headers
from server.api.generation.pieces import ChoiceEvent, Ending, Opening, Origin, Piece
from server.api.generation.tally import Tally
from server.api.json_response import json_bytes
from server.api.request_id import request_id
from server.errors import SwitchyardError

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Delivery:
    """Submitted choices and how their answer is written; `model` is the name that the client asked for.

    `after` is called once all is over, and the client has what it gets.
    """

    choices: Sequence[Choice]
    model: str
    format: AnswerFormat
    stream: bool
    after: Callable[[], None] | None = None


class GenerationResponse(Response):
    """Sends the choices. Nothing is sent before the adapter's fate is known, so headers and status are true.

    However it ends, every choice is closed. One that fails ends them all, and a client that goes away cancels
    them at once.
    """

    def __init__(self, delivery: Delivery) -> None:
        super().__init__()
        self._delivery = delivery
        self._begun = monotonic()
        self._outcome = "failed"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        with (
            anyio.CancelScope() as connected,
            ClientConnection(receive, send, lambda: self._client_gone(connected)) as client,
        ):
            try:
                events = interleaved([choice.events() for choice in self._delivery.choices])
                async with contextlib.aclosing(events):
                    await (self._send_stream if self._delivery.stream else self._send_whole)(events, client.send)
            finally:
                self._close()
                self._log_end()
                if self._delivery.after is not None:
                    self._delivery.after()

    def _client_gone(self, connected: anyio.CancelScope) -> None:
        self._outcome = "disconnected"
        self._close()
        connected.cancel()

    def _close(self) -> None:
        for choice in self._delivery.choices:
            choice.close(self._outcome)

    def _log_end(self) -> None:
        """One line for the whole request; its texts are the client's and stay out of the log."""
        choices = self._delivery.choices
        first = choices[0]
        origin: Origin = first.opening.origin if first.opening is not None else {}
        target = first.attempt.target
        fallback = origin.get("fallback")
        logger.debug(
            "request %s: %s: model %s, adapter %s, digest %s, fallback %s, %d prompt and %d generated tokens, %.3f s",
            request_id.get(),
            "/".join(dict.fromkeys(choice.outcome for choice in choices)),
            self._delivery.model,
            origin.get("adapter", target.name),
            origin.get("digest", target.digest) or "none",
            fallback["reason"] if fallback else "none",
            sum(len(choice.attempt.command.prompt) for choice in choices),
            sum(choice.token_count for choice in choices),
            monotonic() - self._begun,
        )

    async def _send_whole(self, events: AsyncIterator[ChoiceEvent], send: Send) -> None:
        answer = await gathered(events)
        body = await apart(lambda: json_bytes(self._delivery.format.whole(answer)), answer_entries(answer))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send(_head(headers + origin_headers(answer.origin)))
        await send({"type": "http.response.body", "body": body})

    async def _send_stream(self, events: AsyncIterator[ChoiceEvent], send: Send) -> None:
        opening = await anext(events)
        assert isinstance(opening, Opening)
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await send(_head(headers + origin_headers(opening.origin)))
        try:
            async for chunk in self._chunks(opening, events):
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            end = b""
        except SwitchyardError as error:
            end = self._delivery.format.failure(error_object(error))
        except Exception:
            logger.exception("request %s: the stream failed", request_id.get())
            end = self._delivery.format.failure(internal_error_object())
        await send({"type": "http.response.body", "body": end, "more_body": False})

    async def _chunks(self, opening: Opening, events: AsyncIterator[ChoiceEvent]) -> AsyncGenerator[bytes]:
        """The stream as bytes, one or several server-sent events at a time."""
        write, tally, running = self._delivery.format, Tally(), len(self._delivery.choices)
        tally.open(opening)
        # Openings are written with what follows them, so that a client measures its first token by its first chunk.
        unwritten = {opening.index: opening}
        async for event in events:
            if isinstance(event, Piece):
                if unwritten and (first := unwritten.pop(event.index, None)) is not None:
                    # The first piece may be an echo, with the scores of a long prompt.
                    yield await apart(partial(write.first, first, event), scored_entries(event.tokens))
                else:
                    yield write.more(event)
            elif isinstance(event, Ending):
                tally.close(event)
                running -= 1
                first = unwritten.pop(event.index, None)
                begin = write.first(first, Piece(event.index, "")) if first is not None else b""
                end = b"" if running else write.end(tally.usage(), tally.origin())
                yield begin + write.last(event) + end
            else:
                tally.open(event)
                unwritten[event.index] = event


def _head(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": headers}
