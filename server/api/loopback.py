"""What a server without a key asks of a request: that it comes from this machine, and from no web page elsewhere.

Binding to loopback alone does not see to that: a browser on this machine runs pages from everywhere, which may send
requests to it, under its own name (`Origin`) or under a name of theirs that resolves to it (`Host`).
"""

import re

from starlette.datastructures import Headers

from server.errors import ForbiddenHost, ForbiddenOrigin

_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@]+))(?::[0-9]+)?", re.IGNORECASE)
_HINT = "; to be reached in any other way, set SWITCHYARD_API_KEY"


class LoopbackGuard:
    """Knows this machine by its loopback names and by `bound`, the address that the server listens on."""

    def __init__(self, bound: str) -> None:
        self._names = _NAMES | {bound.lower()}

    def check(self, headers: Headers) -> None:
        """Let a request of this machine pass.

        Raises:
            ForbiddenHost: `Host` names another machine.
            ForbiddenOrigin: a web page of another machine sent it.
        """
        host, origin = headers.get("host", ""), headers.get("origin")
        if not self._is_here(host):
            raise ForbiddenHost(f"this server answers to localhost and 127.0.0.1 only, not to {host[:96]!r}{_HINT}")
        if origin is not None and not self._is_here(origin.partition("://")[2]):
            raise ForbiddenOrigin(f"this server takes no requests from web pages of {origin[:96]!r}{_HINT}")

    def _is_here(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        return match is not None and (match[1] or match[2]).lower() in self._names
