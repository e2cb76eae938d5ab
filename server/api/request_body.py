"""Reading a request's JSON body, never more of it than allowed."""

from collections.abc import AsyncIterator

import msgspec
from fastapi import Request

from server.errors import BodyTooLarge, InvalidRequest


async def read_json(request: Request, limit: int) -> object:
    """Decode the body, of at most `limit` bytes.

    Raises:
        BodyTooLarge: the body is longer, whatever its content-length said.
        InvalidRequest: the body is not JSON.
    """
    body = bytearray()
    async for chunk in limited_stream(request, limit):
        body += chunk
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidRequest(f"the request body is not valid JSON: {error}") from None
    except RecursionError:
        raise InvalidRequest("the request body is nested too deeply") from None


async def limited_stream(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The body in chunks as they arrive, counted.

    Raises:
        BodyTooLarge: as soon as it is known that there are more than `limit` bytes.
        starlette.requests.ClientDisconnect: the client went away.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > limit:
        raise _too_large(limit)
    received = 0
    async for chunk in request.stream():
        received += len(chunk)
        if received > limit:
            raise _too_large(limit)
        if chunk:
            yield chunk


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"the request body is larger than the {limit} bytes that this server takes")
