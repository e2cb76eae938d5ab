"""One generation, delivered to one client: whole or as a stream, to its end or to the client's."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from adapters_store.names import BASE_NAME
from server.api.admission import Place
from server.api.answer_format import DONE, AnswerFormat
from server.api.client_connection import ClientConnection
from server.api.errors import error_object, internal_error_object
from server.api.generated_text import GeneratedText
from server.api.json_response import json_bytes
from server.api.model_names import Target
from server.api.request_id import request_id
from server.api.request_metrics import RequestRecord
from server.engine.interface import Generation
from server.engine.messages import Failed, Started, Tokens
from server.errors import AdapterUnavailable, EngineFailed, EngineUnavailable, InvalidRequest, SwitchyardError

logger = logging.getLogger(__name__)

_FAILURES: dict[str, type[SwitchyardError]] = {
    error.code: error for error in (AdapterUnavailable, EngineFailed, EngineUnavailable, InvalidRequest)
}


@dataclass(frozen=True)
class Delivery:
    """A submitted request and how its answer is written; `model` is the name that the client asked for."""

    generation: Generation
    model: str
    target: Target
    prompt_tokens: int
    text: GeneratedText
    format: AnswerFormat
    record: RequestRecord
    place: Place
    stream: bool
    include_usage: bool


class GenerationResponse(Response):
    """Sends a generation. Nothing is sent before the adapter's fate is known, so headers and status are true.

    However it ends, the generation is over, its place is free and its record is closed. A client that goes
    away cancels the generation at once.
    """

    def __init__(self, delivery: Delivery) -> None:
        super().__init__()
        self._delivery = delivery
        self._received = aiter(delivery.generation)
        self._outcome = "failed"
        self._started: Started | None = None
        self._over = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        delivery = self._delivery
        with (
            anyio.CancelScope() as connected,
            ClientConnection(receive, send, lambda: self._client_gone(connected)) as client,
        ):
            try:
                await (self._send_stream(client.send) if delivery.stream else self._send_whole(client.send))
            finally:
                delivery.generation.cancel()
                delivery.place.leave()
                self._log_end(delivery.record.end(self._outcome, delivery.text.token_count))

    def _log_end(self, seconds: float) -> None:
        """One line for the whole request; its texts are the client's and stay out of the log."""
        delivery = self._delivery
        adapter, digest = delivery.target.name, delivery.target.digest
        fallback = None
        if self._started is not None:
            origin = _origin(delivery.target, self._started)
            adapter, digest, fallback = origin["adapter"], origin["digest"], self._started.fallback
        logger.debug(
            "request %s: %s: model %s, adapter %s, digest %s, fallback %s, %d prompt and %d generated tokens, %.3f s",
            request_id.get(),
            self._outcome,
            delivery.model,
            adapter,
            digest or "none",
            fallback or "none",
            delivery.prompt_tokens,
            delivery.text.token_count,
            seconds,
        )

    def _client_gone(self, connected: anyio.CancelScope) -> None:
        if not self._over:
            self._outcome = "disconnected"
        self._delivery.generation.cancel()
        connected.cancel()

    async def _send_whole(self, send: Send) -> None:
        delivery = self._delivery
        started = await self._start()
        text = "".join([part async for part in self._texts()])
        origin = _origin(delivery.target, started)
        body = json_bytes(delivery.format.whole(text, self._outcome, self._usage(started), origin))
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send(_head(headers + _adapter_headers(origin)))
        await send({"type": "http.response.body", "body": body})

    async def _send_stream(self, send: Send) -> None:
        origin = _origin(self._delivery.target, started := await self._start())
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-cache"),
            (b"x-accel-buffering", b"no"),
        ]
        await send(_head(headers + _adapter_headers(origin)))
        try:
            async for event in self._events(started, origin):
                await send({"type": "http.response.body", "body": event, "more_body": True})
            end = b""
        except SwitchyardError as error:
            end = _error_event(error_object(error))
        except Exception:
            logger.exception("request %s: the stream failed", request_id.get())
            end = _error_event(internal_error_object())
        self._over = True
        await send({"type": "http.response.body", "body": end, "more_body": False})

    async def _events(self, started: Started, origin: dict[str, Any]) -> AsyncIterator[bytes]:
        """The stream as bytes, one or several server-sent events at a time."""
        write = self._delivery.format
        begun = False
        async for text in self._texts():
            yield write.more(text) if begun else write.first(text, origin)
            begun = True
        end = write.last(self._outcome)
        if not begun:
            end = write.first("", origin) + end
        if self._delivery.include_usage:
            end += write.usage(self._usage(started), origin)
        yield end + DONE

    async def _start(self) -> Started:
        """Wait until the adapter's fate is known.

        Raises:
            AdapterUnavailable, EngineUnavailable, EngineFailed: the request ended before it ran.
        """
        async for event in self._received:
            if isinstance(event, Started):
                self._started = event
                self._delivery.record.started(event)
                return event
            if isinstance(event, Failed) and event.reason is not None:
                self._delivery.record.refused(event.reason)
            _raise_failure(event)
        raise EngineFailed("the engine ended the request without an answer")

    async def _texts(self) -> AsyncIterator[str]:
        """The text as it may be shown, in pieces that are not empty; afterwards the outcome is known."""
        text = self._delivery.text
        async for event in self._received:
            if not isinstance(event, Tokens) or event.finish_reason == "cancelled":
                _raise_failure(event)
                continue
            if text.token_count == 0 and event.token_ids:
                self._delivery.record.first_token()
            shown = text.push(event.token_ids)
            ended = text.stopped or event.finish_reason is not None
            if ended:
                self._over = True
                self._delivery.generation.cancel()
                shown += text.finish()
                self._outcome = "stop" if text.stopped else event.finish_reason or "stop"
            if shown:
                yield shown
            if ended:
                return
        raise EngineFailed("the engine ended the request without saying why")

    def _usage(self, started: Started) -> dict[str, Any]:
        prompt, completion = self._delivery.prompt_tokens, self._delivery.text.token_count
        return {
            "prompt_tokens": prompt,
            "completion_tokens": completion,
            "total_tokens": prompt + completion,
            "prompt_tokens_details": {"cached_tokens": started.cached_tokens},
        }


def _raise_failure(event: object) -> None:
    """Raise what a terminal event that is no answer stands for."""
    if isinstance(event, Failed):
        reason = f" ({event.reason})" if event.reason is not None else ""
        raise _FAILURES[event.code](f"{event.message}{reason}")
    if isinstance(event, Tokens) and event.finish_reason == "cancelled":
        raise EngineUnavailable("the server is shutting down")


def _origin(target: Target, started: Started) -> dict[str, Any]:
    """The `switchyard` object: what runs, and why it is not what was asked for."""
    fallback = None
    if started.fallback is not None:
        fallback = {"reason": started.fallback, "detail": started.detail}
    return {
        "adapter": BASE_NAME if started.digest is None else target.name,
        "digest": started.digest,
        "fallback": fallback,
        "cached_tokens": started.cached_tokens,
    }


def _adapter_headers(origin: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    headers = [
        (b"x-adapter-name", str(origin["adapter"]).encode("ascii")),
        (b"x-adapter-digest", str(origin["digest"] or BASE_NAME).encode("ascii")),
    ]
    if origin["fallback"] is not None:
        headers.append((b"x-adapter-fallback", str(origin["fallback"]["reason"]).encode("ascii")))
    return headers


def _head(headers: list[tuple[bytes, bytes]]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": 200, "headers": headers}


def _error_event(error: dict[str, Any]) -> bytes:
    return b"data: " + json_bytes(error) + b"\n\n"
