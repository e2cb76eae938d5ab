"""What a sweep varies, and the loads that this makes."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from loadtest.options import LoadOptions

DEFAULT_CLIENTS = 16


@dataclass(frozen=True)
class Variation:
    """One load of a sweep. `varied` is what sets it apart; `flags` go to the server. Not both loops are given."""

    varied: dict[str, object]
    clients: int | None
    rate: float | None
    adapters: int | None = None
    flags: tuple[str, ...] = ()


def variations(options: LoadOptions, working_set: str | None = None, vary: Sequence[str] = ()) -> tuple[Variation, ...]:
    """Every combination of the values that are given as lists; one load where none is.

    `working_set` is a list of numbers of adapters, or of multiples of the cache (`4x`). Each of `vary` is a setting of
    the server with its values, as `window_ms=0,10,25`.

    Raises:
        ValueError: a list cannot be read, or options exclude each other; the message names them.
    """
    if options.clients is not None and options.rate is not None:
        raise ValueError("--clients is a closed loop and --rate an open one: give one of them")
    if options.trace is not None and options.rate is not None:
        raise ValueError("--rate: a trace has its own times; change them with --speed-up")
    if options.url is not None and (options.cache is not None or vary):
        raise ValueError("--cache and --vary need a server of our own: leave --url out")
    clients = [_whole("--clients", part) for part in (options.clients or "").split(",") if options.clients]
    rates = [_positive("--rate", part) for part in (options.rate or "").split(",") if options.rate]
    if not clients and not rates and options.trace is None:
        clients = [DEFAULT_CLIENTS]
    sets: list[str | None] = list(working_set.split(",")) if working_set else [None]
    settings = [_setting(text) for text in vary]
    loops: list[float | None] = [*clients, *rates] or [None]
    found = []
    for loop, members, values in product(loops, sets, product(*(values for _, values in settings))):
        varied: dict[str, object] = {}
        if members is not None:
            varied["working_set"] = members
        if clients and len(clients) > 1:
            varied["clients"] = loop
        if len(rates) > 1:
            varied["rate"] = loop
        varied |= {name: value for (name, _), value in zip(settings, values, strict=True)}
        pairs = (_flag(name, value) for (name, _), value in zip(settings, values, strict=True))
        found.append(
            Variation(
                varied,
                clients=int(loop) if loop is not None and clients else None,
                rate=float(loop) if loop is not None and rates else None,
                adapters=_adapters(members, options) if members is not None else None,
                flags=tuple(part for pair in pairs for part in pair),
            )
        )
    return tuple(found)


def _flag(name: str, value: str) -> tuple[str, ...]:
    """A setting on the command line of `serve`; one that is on or off takes no value there."""
    option = name.replace("_", "-")
    if value in ("true", "false"):
        return (f"--{option}" if value == "true" else f"--no-{option}",)
    return f"--{option}", value


def _adapters(text: str, options: LoadOptions) -> int:
    if not text.endswith("x"):
        return _whole("--working-set", text)
    if options.cache is None:
        raise ValueError(f"--working-set {text}: multiples are of --cache, which is not given")
    return max(1, round(_positive("--working-set", text[:-1]) * options.cache))


def _setting(text: str) -> tuple[str, list[str]]:
    name, _, values = text.partition("=")
    if not name or not values or "" in values.split(","):
        raise ValueError(f"--vary {text!r}: write a setting and its values, as window_ms=0,10,25")
    return name, values.split(",")


def _whole(option: str, text: str) -> int:
    try:
        number = int(text)
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is not a list of numbers such as 1,4,16") from error
    if number < 1:
        raise ValueError(f"{option}: {number} is not positive")
    return number


def _positive(option: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError as error:
        raise ValueError(f"{option}: {text!r} is not a list of numbers such as 0.5,2,8") from error
    if not 0 < number < float("inf"):
        raise ValueError(f"{option}: {text} is not positive")
    return number
