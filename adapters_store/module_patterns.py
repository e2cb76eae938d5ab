"""Which modules a PEFT configuration speaks of: its regular expressions and suffixes, matched as PEFT does.

The rules are those of PEFT 0.21: `get_pattern_key` in peft/utils/other.py (`rank_pattern`, `alpha_pattern`) and
`check_target_module_exists` in peft/tuners/tuners_utils.py (`target_modules` and what narrows it).

The expressions come from whoever uploads an adapter: they are matched in bounded time (`name_expression`), and
all matching of one adapter has a time limit.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from adapters_store.errors import InvalidAdapter
from adapters_store.name_expression import NameExpression, NameText
from adapters_store.quoting import quoted

MAX_PATTERNS: Final = 4096
MAX_LAYER_NAMES: Final = 64
MATCHING_SECONDS: Final = 10.0

_Value = TypeVar("_Value", int, float)

_PLAIN_NAME = re.compile(r"[\w.]+")


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
    patterns: tuple[tuple[NameExpression, _Value], ...]

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
        return cls(field, tuple((compile_pattern(field, pattern), value) for pattern, value in values.items()))

    def value_for(self, module: str, default: _Value, deadline: MatchingDeadline) -> _Value:
        """The value of the first pattern that matches the end of the module's name, from a dot on."""
        text = NameText(module)
        for pattern, value in self.patterns:
            deadline.check(self.field)
            if pattern.matches_ending(text):
                return value
        return default


@dataclass(frozen=True, slots=True)
class ModuleSet:
    """`target_modules` or `exclude_modules`: one expression for whole names, or names and endings of names."""

    field: str
    selector: NameExpression | frozenset[str]

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
        return self.selector.matches_whole(NameText(module))

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
            InvalidAdapter: a name is not plain, or there are too many.
        """
        if len(names) > MAX_LAYER_NAMES:
            raise InvalidAdapter(
                f"layers_pattern has {len(names)} names, more than the {MAX_LAYER_NAMES} allowed",
                param="layers_pattern",
            )
        # PEFT asks for the number that a match captured, which only `re` knows; plain names leave it one path.
        for name in names:
            if not _PLAIN_NAME.fullmatch(name):
                raise _refused("layers_pattern", name, "is not a plain name: list the names of the layer lists")
        sources = [rf"(?:^|.*?\.){name}\.(?P<layer>\d+)\." for name in names]
        sources = sources or [r".*?\.[^.]*\.(?P<layer>\d+)\."]
        return cls(frozenset(layers), tuple(map(re.compile, sources)))

    def matches(self, module: str, deadline: MatchingDeadline) -> bool:
        """Whether the module lies in one of the layers."""
        deadline.check("layers_pattern")
        found = next((match for pattern in self.patterns if (match := pattern.match(module))), None)
        return found is not None and int(found["layer"]) in self.layers


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


def compile_pattern(field: str, pattern: str) -> NameExpression:
    """Compile an expression of bounded cost; `field` is named in the error.

    Raises:
        InvalidAdapter: it is no regular expression, or uses more than is matched here.
    """
    try:
        return NameExpression.compile(pattern)
    except ValueError as error:
        raise _refused(field, pattern, str(error)) from error


def _refused(field: str, pattern: str, reason: str) -> InvalidAdapter:
    return InvalidAdapter(f"{field} {quoted(pattern)} {reason}", param=field)


def _dotted_ends(module: str) -> list[str]:
    """The name itself and every ending of it that starts after a dot."""
    parts = module.split(".")
    return [".".join(parts[start:]) for start in range(len(parts))]
