"""The rule of a task route: which adapters answer for a task, and in which shares.

A rule is a value that an operator writes as JSON. It names adapters by reference (`[tenant/]name[@alias|@sha256:…]`,
or `base`), so that moving an alias moves what the task runs on without touching the rule.
"""

import math
import re
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from adapters_store.errors import InvalidName, InvalidTask
from adapters_store.names import BASE_NAME, parse_adapter_ref
from adapters_store.quoting import quoted

MAX_ARMS: Final = 16
MAX_TIERS: Final = 8
MAX_FALLBACKS: Final = 8
MAX_SHADOWS: Final = 4
MAX_WEIGHT: Final = 1_000_000.0
MIN_WEIGHT: Final = 1e-6
MAX_DESCRIPTION_CHARS: Final = 1000
MAX_HOLD_SECONDS: Final = 3600.0

StickyLabel = Literal["user", "prompt_cache_key", "safety_identifier"]
STICKY_LABELS: Final[tuple[StickyLabel, ...]] = ("user", "prompt_cache_key", "safety_identifier")

_AT = re.compile(r"(?s)(.*) - at `\$\.?(.*)`")


class Tier(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several adapters that do the same at different sizes."""

    adapter: str


class Arm(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A share of the task's requests: one adapter, or tiers of which the first is taken while there is room.

    Weights count in proportion to their sum; an arm of weight 0 gets nothing. Others are bounded, so that no share
    is lost in rounding.
    """

    adapter: str | None = None
    tiers: tuple[Tier, ...] = ()
    weight: float = 1.0

    @property
    def refs(self) -> tuple[str, ...]:
        """The adapters of the arm, the preferred one first."""
        return tuple(tier.adapter for tier in self.tiers) if self.adapter is None else (self.adapter,)

    def __str__(self) -> str:
        return ",".join(self.refs)


class Shadow(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An adapter that gets copies of a share (0 to 1) of the requests; nobody sees its answers."""

    adapter: str
    sample: float = 1.0


class Pressure(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """When tiers step down and up, as shares of the device's adapter budget that adapters in use fill.

    A tier is left when they would fill more than `down` with it, and a better one is taken again when they would
    fill at most `up` with it, at the earliest `hold_seconds` after the last change. `up` lies below `down`, so
    that a demand between the two changes nothing.
    """

    down: float = 0.95
    up: float = 0.8
    hold_seconds: float = 10.0


class TaskRule(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What an operator sets for a task.

    One of `arms` is chosen by weight: by a request label where `sticky` names one and the request has it, so that
    one user stays on one arm, else request by request. `fallback` is tried in order when nothing of the arm can
    answer. `shadow` gets copies.
    """

    arms: tuple[Arm, ...]
    fallback: tuple[str, ...] = ()
    shadow: tuple[Shadow, ...] = ()
    sticky: StickyLabel | None = None
    pressure: Pressure = Pressure()
    description: str = ""

    def refs(self) -> Iterator[tuple[str, str]]:
        """Every adapter that the rule names, with the path of the field that names it."""
        for number, arm in enumerate(self.arms):
            if arm.adapter is not None:
                yield f"arms[{number}].adapter", arm.adapter
            for place, tier in enumerate(arm.tiers):
                yield f"arms[{number}].tiers[{place}].adapter", tier.adapter
        for number, ref in enumerate(self.fallback):
            yield f"fallback[{number}]", ref
        for number, shadow in enumerate(self.shadow):
            yield f"shadow[{number}].adapter", shadow.adapter


def parse_rule(body: object) -> TaskRule:
    """Validate a decoded JSON object as a rule.

    Raises:
        InvalidTask: a field is unknown, missing, of the wrong type or out of range; `param` is its path.
    """
    if not isinstance(body, dict):
        raise InvalidTask("a task rule must be a JSON object")
    try:
        rule = msgspec.convert(body, TaskRule)
    except (msgspec.ValidationError, RecursionError) as error:
        raise _refusal_of(error) from None
    check_rule(rule)
    return rule


def check_rule(rule: TaskRule) -> None:
    """Check what the types of a rule cannot say.

    Raises:
        InvalidTask: `param` is the path of the field at fault.
    """
    _check_count("arms", len(rule.arms), 1, MAX_ARMS)
    _check_count("fallback", len(rule.fallback), 0, MAX_FALLBACKS)
    _check_count("shadow", len(rule.shadow), 0, MAX_SHADOWS)
    for number, arm in enumerate(rule.arms):
        _check_arm(arm, f"arms[{number}]")
    if not any(arm.weight for arm in rule.arms):
        raise _refused("arms", "needs at least one arm whose weight is above 0")
    _check_distinct("arms", [str(arm) for arm in rule.arms])
    _check_distinct("fallback", rule.fallback)
    _check_distinct("shadow", [shadow.adapter for shadow in rule.shadow])
    for path, ref in rule.refs():
        _check_ref(path, ref)
    for number, shadow in enumerate(rule.shadow):
        _check_shadow(shadow, f"shadow[{number}]")
    if BASE_NAME in rule.fallback[:-1]:
        raise _refused("fallback", f"has `{BASE_NAME}` before its end: the base always answers, so put it last")
    _check_pressure(rule.pressure)
    if len(rule.description) > MAX_DESCRIPTION_CHARS:
        raise _refused("description", f"must have at most {MAX_DESCRIPTION_CHARS} characters")


def _check_arm(arm: Arm, path: str) -> None:
    if (arm.adapter is None) == (not arm.tiers):
        raise _refused(path, "needs either an `adapter` or a list of `tiers`, and not both")
    if len(arm.tiers) > MAX_TIERS:
        raise _refused(f"{path}.tiers", f"has {len(arm.tiers)} entries; at most {MAX_TIERS} are allowed")
    _check_distinct(f"{path}.tiers", arm.refs)
    if arm.weight and not MIN_WEIGHT <= arm.weight <= MAX_WEIGHT:
        raise _refused(f"{path}.weight", f"must be 0, or from {MIN_WEIGHT:g} to {MAX_WEIGHT:g}")


def _check_shadow(shadow: Shadow, path: str) -> None:
    if not 0 < shadow.sample <= 1:
        raise _refused(f"{path}.sample", "must be above 0 and at most 1, the share of requests that are copied")


def _check_pressure(pressure: Pressure) -> None:
    if not 0 < pressure.down <= 1:
        raise _refused("pressure.down", "must be above 0 and at most 1, a share of the adapter budget")
    if not 0 < pressure.up < pressure.down:
        raise _refused("pressure.up", "must be above 0 and below pressure.down, so that tiers do not flap")
    if not (math.isfinite(pressure.hold_seconds) and 0 <= pressure.hold_seconds <= MAX_HOLD_SECONDS):
        raise _refused("pressure.hold_seconds", f"must be from 0 to {MAX_HOLD_SECONDS:g} seconds")


def _check_ref(path: str, ref: str) -> None:
    try:
        parsed = parse_adapter_ref(ref)
    except InvalidName as error:
        raise _refused(path, error.message) from None
    if parsed.name.is_reserved and not parsed.is_base:
        raise _refused(path, f"{quoted(ref)} is a reserved name, which no adapter has")


def _check_count(field: str, count: int, least: int, most: int) -> None:
    if not least <= count <= most:
        raise _refused(field, f"has {count} entries; it must have {least} to {most}")


def _check_distinct(field: str, refs: "list[str] | tuple[str, ...]") -> None:
    if len(set(refs)) < len(refs):
        raise _refused(field, "names the same adapter twice")


def _refused(param: str, reason: str) -> InvalidTask:
    return InvalidTask(f"{param}: {reason}", param=param)


def _refusal_of(error: Exception) -> InvalidTask:
    """msgspec's refusal, with the path that it ends with in front."""
    if isinstance(error, RecursionError):
        return InvalidTask("the task rule is nested too deeply")
    found = _AT.fullmatch(str(error))
    if found is None or not found[2]:
        text = str(error).partition(" - at ")[0]
        return InvalidTask(f"task rule: {text}", param=None)
    return _refused(found[2][:128], found[1])
