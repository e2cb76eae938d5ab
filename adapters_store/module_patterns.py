"""Which modules a PEFT configuration speaks of: its regular expressions and suffixes, matched as PEFT does.

The rules are those of PEFT 0.21: `get_pattern_key` in peft/utils/other.py (`rank_pattern`, `alpha_pattern`) and
`check_target_module_exists` in peft/tuners/tuners_utils.py (`target_modules` and what narrows it).

The expressions come from whoever uploads an adapter, and Python's `re` backtracks: one such as `(a+)+$` would
hold the process for hours. So an expression may repeat single items only, a few times, and matching has a time
limit over all modules.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from adapters_store.errors import InvalidAdapter
from adapters_store.quoting import quoted

MAX_PATTERN_CHARS: Final = 1024
MAX_REPEATS: Final = 5
MAX_PATTERNS: Final = 4096
MATCHING_SECONDS: Final = 10.0

_Value = TypeVar("_Value", int, float)

# One item of an expression: an escape, a character class, the opening of a group, a repeat, or any character.
_ITEM = re.compile(
    r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|\((?:\?(?::|<?[=!])|(?P<extension>\?))?|(?P<repeat>[*+?]|\{\d*,?\d*\})[?+]?|.",
    re.DOTALL,
)


class MatchingDeadline:
    """The time that all matching of one adapter may take together."""

    def __init__(self, seconds: float = MATCHING_SECONDS) -> None:
        self._end = time.monotonic() + seconds

    def check(self, field: str) -> None:
        """Raises InvalidAdapter once the time is over."""
        if time.monotonic() > self._end:
            raise InvalidAdapter(f"{field} takes too long to match: write simpler expressions", param=field)


@dataclass(frozen=True, slots=True)
class PatternValues(Generic[_Value]):
    """A `rank_pattern` or `alpha_pattern`: expressions in order, each with the value of the modules it matches."""

    field: str
    patterns: tuple[tuple[re.Pattern[str], _Value], ...]

    @classmethod
    def compile(cls, field: str, values: Mapping[str, _Value]) -> "PatternValues[_Value]":
        """Prepare the patterns of a field.

        Raises:
            InvalidAdapter: one of them is not an expression that is allowed here.
        """
        if len(values) > MAX_PATTERNS:
            raise InvalidAdapter(
                f"{field} has {len(values)} patterns, more than the {MAX_PATTERNS} allowed", param=field
            )
        for pattern in values:
            compile_pattern(field, pattern)
        compiled = ((_compile(field, pattern, rf"(.*\.)?({pattern})$"), value) for pattern, value in values.items())
        return cls(field, tuple(compiled))

    def value_for(self, module: str, default: _Value, deadline: MatchingDeadline) -> _Value:
        """The value of the first pattern that matches the end of the module's name, from a dot on."""
        for pattern, value in self.patterns:
            if pattern.match(module):
                return value
        deadline.check(self.field)
        return default


@dataclass(frozen=True, slots=True)
class ModuleSet:
    """`target_modules` or `exclude_modules`: one expression for whole names, or names and endings of names."""

    field: str
    selector: re.Pattern[str] | frozenset[str]

    @classmethod
    def compile(cls, field: str, value: str | Sequence[str]) -> "ModuleSet":
        """Prepare a field: a string is an expression, a list holds names.

        Raises:
            InvalidAdapter: the expression is not allowed here.
        """
        return cls(field, compile_pattern(field, value) if isinstance(value, str) else frozenset(value))

    def matches(self, module: str, deadline: MatchingDeadline) -> bool:
        """Whether the set names this module."""
        if isinstance(self.selector, frozenset):
            return any(end in self.selector for end in _dotted_ends(module))
        deadline.check(self.field)
        return self.selector.fullmatch(module) is not None

    def lists(self, module: str) -> bool:
        """Whether the set is a list that holds the module's full name."""
        return isinstance(self.selector, frozenset) and module in self.selector


@dataclass(frozen=True, slots=True)
class LayerSelection:
    """`layers_to_transform` with `layers_pattern`: the layers, by number, that a list of targets is narrowed to."""

    layers: frozenset[int]
    patterns: tuple[re.Pattern[str], ...]

    @classmethod
    def compile(cls, layers: Sequence[int], names: Sequence[str]) -> "LayerSelection":
        """Prepare the two fields; without `names`, the first number after a dot counts.

        Raises:
            InvalidAdapter: a name is not an expression that is allowed here.
        """
        for name in names:
            compile_pattern("layers_pattern", name)
        sources = {name: rf"(?:^|.*?\.){name}\.(?P<layer>\d+)\." for name in names}
        sources = sources or {"": r".*?\.[^.]*\.(?P<layer>\d+)\."}
        patterns = tuple(_compile("layers_pattern", name, source) for name, source in sources.items())
        return cls(frozenset(layers), patterns)

    def matches(self, module: str, deadline: MatchingDeadline) -> bool:
        """Whether the module lies in one of the layers."""
        deadline.check("layers_pattern")
        found = next((match for pattern in self.patterns if (match := pattern.match(module))), None)
        # An alternative in the name can match without the number.
        return found is not None and found["layer"] is not None and int(found["layer"]) in self.layers


@dataclass(frozen=True, slots=True)
class TargetModules:
    """The modules that a configuration adapts."""

    included: ModuleSet
    excluded: ModuleSet | None = None
    layers: LayerSelection | None = None

    def matches(self, module: str, deadline: MatchingDeadline) -> bool:
        """Whether PEFT would adapt a linear module of this full name."""
        if self.excluded is not None and self.excluded.matches(module, deadline):
            return False
        if not self.included.matches(module, deadline):
            return False
        if self.layers is None or self.included.lists(module):
            return True
        return self.layers.matches(module, deadline)


def compile_pattern(field: str, pattern: str) -> re.Pattern[str]:
    """Compile an expression of bounded cost; `field` is named in the error.

    Raises:
        InvalidAdapter: it is no regular expression, too long, or repeats a group or too many items.
    """
    if len(pattern) > MAX_PATTERN_CHARS:
        raise _refused(field, pattern, f"is longer than {MAX_PATTERN_CHARS} characters")
    _check_repeats(field, pattern)
    return _compile(field, pattern, pattern)


def _compile(field: str, pattern: str, source: str) -> re.Pattern[str]:
    """Compile `source`, in which the checked `pattern` stands; `pattern` is what the error shows."""
    try:
        return re.compile(source)
    except (re.error, RecursionError, OverflowError) as error:
        raise _refused(field, pattern, f"is not a regular expression ({error})") from error


def _check_repeats(field: str, pattern: str) -> None:
    repeats = 0
    previous = ")"  # where PEFT puts the expression, a group may stand before it
    for item in _ITEM.finditer(pattern):
        if item["extension"]:
            raise _refused(field, pattern, "uses a `(?…)` other than `(?:`, `(?=`, `(?!`, `(?<=` and `(?<!`")
        if item["repeat"]:
            repeats += 1
            if previous == ")" and item["repeat"] != "?":
                raise _refused(field, pattern, "repeats a group, which can take exponential time: list the names")
        previous = item[0]
    if repeats > MAX_REPEATS:
        raise _refused(field, pattern, f"has more than {MAX_REPEATS} of `*`, `+`, `?` and `{{}}`: list the names")


def _refused(field: str, pattern: str, reason: str) -> InvalidAdapter:
    return InvalidAdapter(f"{field} {quoted(pattern)} {reason}", param=field)


def _dotted_ends(module: str) -> list[str]:
    """The name itself and every ending of it that starts after a dot."""
    parts = module.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]
