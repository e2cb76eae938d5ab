"""Query parameters that a route does not have."""

from fastapi import Request
from fastapi.routing import APIRoute

from server.errors import UnsupportedField


def only_declared_parameters(request: Request) -> None:
    """A dependency of all routes of a router.

    Raises:
        UnsupportedField: the route has no such parameter. A misspelt `expect` must not overwrite another's change.
    """
    route = request.scope["route"]
    assert isinstance(route, APIRoute)
    known = [field.alias for field in route.dependant.query_params]
    for name in request.query_params:
        if name not in known:
            has = f"which has {' and '.join(known)}" if known else "which has none"
            raise UnsupportedField(f"{name[:64]} is not a query parameter of this route, {has}", param=name[:64])
