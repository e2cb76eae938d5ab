"""Reading a request's JSON body, never more of it than allowed."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from fastapi import Request

from server.api.json_nesting import MAX_NESTING, is_nested_too_deeply
from server.errors import BodyTooLarge, InvalidRequest, RequestTimeout, UnsupportedMediaType

# A client that sends nothing for so long in the middle of a body is given up.
IDLE_SECONDS = 30.0


async def read_json(request: Request, limit: int) -> object:
    """Decode the body, of at most `limit` bytes.

    It must be declared as JSON: a web page may send any other kind elsewhere without asking first.

    Raises:
        UnsupportedMediaType: the content type is another one, or missing.
        BodyTooLarge: the body is longer, whatever its content-length said.
        RequestTimeout: the client stopped sending.
        InvalidRequest: the body is not JSON, or nested more deeply than any client needs.
    """
    if not is_json(request):
        kind = _content_type(request)
        raise UnsupportedMediaType(
            f"the request body is declared as {kind[:64] or 'nothing'}: send JSON, with the header "
            "Content-Type: application/json (curl: -H 'Content-Type: application/json')"
        )
    body = bytearray()
    async for chunk in limited_stream(request, limit):
        body += chunk
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the request body is not valid JSON: {error}") from None
    except RecursionError:
        raise _too_deep() from None
    if is_nested_too_deeply(value):
        raise _too_deep()
    return value


def is_json(request: Request) -> bool:
    """Whether the body is declared as JSON."""
    return _content_type(request) == "application/json"


def _content_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


async def limited_stream(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body in chunks as they arrive, counted.

    Raises:
        BodyTooLarge: as soon as it is known that there are more than `limit` bytes.
        RequestTimeout: no byte came for `IDLE_SECONDS`.
        starlette.requests.ClientDisconnect: the client went away.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    received = 0
    stream = request.stream()
    while (chunk := await _next_chunk(stream)) is not None:
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        if chunk:
            yield chunk


async def _next_chunk(stream: AsyncIterator[bytes]) -> bytes | None:
    """None at the end of the body."""
    try:
        async with asyncio.timeout(IDLE_SECONDS):
            return await anext(stream, None)
    except TimeoutError:
        raise RequestTimeout(f"no byte of the request body came for {IDLE_SECONDS:g} seconds; send it again") from None


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than the {limit} bytes that this server takes")


def _too_deep() -> InvalidRequest:
    return InvalidRequest(f"the request body is nested too deeply: at most {MAX_NESTING} levels are taken")
