"""The outermost layer of every request: its id, its right to be here, its count, and the answer when all else fails."""

import hmac
import logging
import re
import uuid
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.api.errors import error_response, internal_error_response
from server.api.loopback import LoopbackGuard
from server.api.metrics.request_metrics import RequestMetrics
from server.api.request_id import request_id
from server.config import Settings
from server.errors import AuthenticationFailed, SwitchyardError

logger = logging.getLogger(__name__)

_ACCEPTED_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_OPEN_PATHS = frozenset({"/health", "/ping", "/ready"})
_CLIENT_CLOSED = 499
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Boundary:
    """ASGI middleware. A request's own `x-request-id` is kept when it is a plain word, else one is made.

    With a key set, requests must have it; without one, they must come from this machine.
    """

    def __init__(self, app: ASGIApp, *, settings: Settings, metrics: RequestMetrics) -> None:
        self._app = app
        self._key = settings.api_key.get_secret_value().encode() if settings.api_key is not None else b""
        self._loopback = LoopbackGuard(settings.host)
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get("x-request-id", "")
        identity = sent if _ACCEPTED_ID.fullmatch(sent) else uuid.uuid4().hex
        token = request_id.set(identity)
        status = 0

        async def send_identified(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = identity
            await send(message)

        try:
            await self._answer(scope, receive, send_identified)
        except ClientDisconnect:
            logger.debug("request %s: the client went away while it sent it", identity)
        except Exception:
            logger.exception("request %s: %s %r failed", identity, scope["method"], scope["path"])
            if status:
                raise
            await internal_error_response()(scope, receive, send_identified)
        finally:
            request_id.reset(token)
            if status == 500:
                self._metrics.internal_errors.inc()
            self._metrics.http_responses.labels(
                scope["method"] if scope["method"] in _METHODS else "other", _route(scope), status or _CLIENT_CLOSED
            ).inc()

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            self._admit(scope["path"], Headers(scope=scope))
        except SwitchyardError as error:
            await error_response(error)(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _admit(self, path: str, headers: Headers) -> None:
        if not self._key:
            self._loopback.check(headers)
        elif path not in _OPEN_PATHS and not self._has_key(headers):
            raise AuthenticationFailed("a valid API key is required: send it as `Authorization: Bearer …`")

    def _has_key(self, headers: Headers) -> bool:
        kind, _, key = headers.get("authorization", "").partition(" ")
        return hmac.compare_digest(key.strip().encode("latin-1"), self._key) and kind.lower() == "bearer"


def _route(scope: MutableMapping[str, Any]) -> str:
    """The template of the route that answered: a label with few values, whatever paths are asked for."""
    route = scope.get("route")
    return str(getattr(route, "path", "none"))
