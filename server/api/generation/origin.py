"""The `switchyard` object of an answer, and the headers that say the same."""

from collections.abc import Sequence

from adapters_store.names import BASE_NAME
from server.api.generation.pieces import Origin
from server.api.routing.fallback_causes import UNRESOLVED, FallbackCause
from server.api.routing.model_names import Target
from server.api.routing.router import Routing
from server.engine.messages import Failed, Started


def origin_of(
    routing: Routing, target: Target, started: Started, passed: Sequence[tuple[Target, Failed]] = ()
) -> Origin:
    """What runs, and why it is not what was asked for.

    The base answers for an adapter where the engine says so, or where a task came to it because an adapter before it
    was missing or could not be applied; then the first of those is the reason. `passed` are the targets before it that
    could not be applied. `residency` is where the adapter was when the request came: on the device, in host memory or
    only in the store. It, `task`, `rule`, `arm`, `tier` and `passed` stand in the object only where there is something
    to say; `tier` is None where the chosen one was passed over, or there was none to choose.
    """
    fallback = None
    if started.fallback is not None:
        fallback = {"reason": started.fallback, "detail": started.detail}
    elif started.digest is None and routing.missing:
        fallback = {"reason": UNRESOLVED, "detail": routing.missing[0].detail}
    elif started.digest is None and passed:
        fallback = {"reason": passed[0][1].reason, "detail": passed[0][1].message}
    origin: Origin = {
        "adapter": BASE_NAME if started.digest is None else target.name,
        "digest": started.digest,
        "fallback": fallback,
        "cached_tokens": started.cached_tokens,
    }
    if started.tier is not None and started.digest is not None:
        origin["residency"] = started.tier
    if routing.task is not None:
        origin |= {"task": routing.task, "rule": routing.rule}
    if routing.choice is not None:
        origin["arm"] = str(routing.choice.arm)
        if routing.choice.arm.tiers:
            origin["tier"] = routing.choice.tier if target == routing.targets[0] else None
    if passed:
        origin["passed"] = [
            {"adapter": before.name, "digest": before.digest, "reason": failed.reason, "detail": failed.message}
            for before, failed in passed
        ]
    return origin


def fallback_cause(origin: Origin) -> FallbackCause | None:
    """Why the base answers in the place of an adapter; None where it does not."""
    fallback = origin["fallback"]
    return None if fallback is None else fallback["reason"]


def origin_headers(origin: Origin) -> list[tuple[bytes, bytes]]:
    """The adapter, its digest, where it was, and the reason of a fallback."""
    headers = [
        (b"x-adapter-name", str(origin["adapter"]).encode("ascii")),
        (b"x-adapter-digest", str(origin["digest"] or BASE_NAME).encode("ascii")),
    ]
    if "residency" in origin:
        headers.append((b"x-adapter-residency", str(origin["residency"]).encode("ascii")))
    if origin["fallback"] is not None:
        headers.append((b"x-adapter-fallback", str(origin["fallback"]["reason"]).encode("ascii")))
    return headers
