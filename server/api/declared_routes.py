"""What the application's routes take, for the advice to a request that met none of them."""

from fastapi import FastAPI, Request
from starlette.routing import Match

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


def allowed_methods(request: Request) -> list[str]:
    """The methods that some route takes on the request's path."""
    return [method for method in _METHODS if _best_match(request, method, request.scope["path"]) is Match.FULL]


def path_under_v1(request: Request) -> str | None:
    """The request's path under `/v1`, if there is a route for it, whatever its method."""
    path = f"/v1{request.scope['path']}"
    return path if _best_match(request, request.method, path) is not Match.NONE else None


def _best_match(request: Request, method: str, path: str) -> Match:
    app: FastAPI = request.app
    scope = {"type": "http", "method": method, "path": path, "root_path": "", "headers": []}
    return max((route.matches(scope)[0] for route in app.routes), key=lambda match: match.value, default=Match.NONE)
