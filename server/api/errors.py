"""Every failure as OpenAI's error object, with the right status and headers."""

import logging
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from adapters_store import StoreBusy
from server.api.declared_routes import allowed_methods, path_under_v1
from server.api.json_response import json_response
from server.api.request_id import request_id
from server.api.unsupported_endpoints import instead_of
from server.errors import (
    AuthenticationFailed,
    EngineUnavailable,
    InvalidRequest,
    QueueFull,
    RequestTimeout,
    SwitchyardError,
    UnsupportedEndpoint,
)

logger = logging.getLogger(__name__)

LORAX_TAG = "lorax"
"""The tag of routes whose errors have LoRAX's form."""

_LORAX_TYPES = {
    "adapter_unavailable": "generation",
    "engine_failed": "generation",
    "engine_unavailable": "generation",
    "internal_error": "generation",
    "model_not_found": "not_found",
    "task_not_found": "not_found",
    "queue_full": "overloaded",
}
# Seconds a client is told to wait for an engine that starts or restarts.
_ENGINE_RETRY_AFTER = 5


def error_object(error: SwitchyardError) -> dict[str, Any]:
    """`{"error": {message, type, param, code}}`."""
    return _object(error.message, error.type, error.param, error.code)


def lorax_error_object(error: dict[str, Any]) -> dict[str, Any]:
    """An error object in the form of LoRAX and TGI: `{error, error_type}`."""
    details = error["error"]
    return {"error": details["message"], "error_type": _LORAX_TYPES.get(details["code"], "validation")}


def error_response(error: SwitchyardError, *, in_lorax_form: bool = False) -> Response:
    """The answer to a request that failed before anything was sent."""
    headers: dict[str, str] = {}
    if isinstance(error, QueueFull):
        headers["retry-after"] = str(error.retry_after)
    elif isinstance(error, EngineUnavailable):
        headers["retry-after"] = str(_ENGINE_RETRY_AFTER)
    elif isinstance(error, StoreBusy):
        headers["retry-after"] = str(error.retry_after)
    elif isinstance(error, AuthenticationFailed):
        headers["www-authenticate"] = "Bearer"
    elif isinstance(error, RequestTimeout):
        headers["connection"] = "close"
    body = error_object(error)
    return json_response(lorax_error_object(body) if in_lorax_form else body, status=error.status, headers=headers)


def _is_of_lorax(request: Request) -> bool:
    """Whether the route is one of LoRAX's."""
    return LORAX_TAG in getattr(request.scope.get("route"), "tags", ())


def internal_error_object() -> dict[str, Any]:
    """What a client learns of an error of ours: nothing of the inside."""
    message = "the server met an error of its own; its log has the details under this answer's x-request-id"
    return _object(message, "server_error", None, "internal_error")


def internal_error_response() -> Response:
    """The answer to an error of ours."""
    return json_response(internal_error_object(), status=500)


def install_error_handlers(app: FastAPI) -> None:
    """Make the application answer its errors, and the framework's, in this form."""
    app.add_exception_handler(SwitchyardError, _on_switchyard_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(RequestValidationError, _on_validation_error)


async def _on_switchyard_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, SwitchyardError)
    if error.status >= 500:
        place = f"{request.method} {request.url.path!r}"
        logger.warning("request %s: %s: %s: %s", request_id.get(), place, error.code, error.message)
    return error_response(error, in_lorax_form=_is_of_lorax(request))


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework raises itself: no such route, or no such method on it."""
    assert isinstance(error, HTTPException)
    place = f"{request.method} {request.url.path}"
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    if error.status_code == 404:
        instead = instead_of(request.url.path)
        if instead is not None:
            return error_response(UnsupportedEndpoint(f"{place} is not part of this server: {instead}"))
        near = path_under_v1(request)
        advice = f"; did you mean {near}? (the client's base_url ends in /v1)" if near is not None else ""
        body = _object(f"there is no {place}{advice}", "invalid_request_error", None, "not_found")
    elif error.status_code == 405:
        methods = allowed_methods(request)
        headers["allow"] = ", ".join(methods)
        message = f"{place} is not allowed; send {' or '.join(methods)}"
        body = _object(message, "invalid_request_error", None, "method_not_allowed")
    else:
        phrase = HTTPStatus(error.status_code).phrase.lower()
        body = _object(str(error.detail), "invalid_request_error", None, phrase.replace(" ", "_"))
    return json_response(body, status=error.status_code, headers=headers)


async def _on_validation_error(_: Request, error: Exception) -> Response:
    """A query parameter or path that the framework could not read."""
    assert isinstance(error, RequestValidationError)
    problem = error.errors()[0]
    param = ".".join(str(part) for part in problem["loc"][1:])
    return error_response(InvalidRequest(f"{param}: {problem['msg']}", param=param))


def _object(message: str, kind: str, param: str | None, code: str) -> dict[str, Any]:
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}
