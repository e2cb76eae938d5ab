"""Regular expressions over module names, matched without backtracking.

Expressions come from whoever uploads an adapter. Python's `re` tries one path after another, so a short one such as
`(?:.|[a-z])` thirty times over would hold the process for minutes. Here all paths advance together: a match is a
walk over the items of the expression, with the set of positions in the name that they can have reached (Thompson,
Communications of the ACM 11 (6), 1968). The set is an integer, bit p for position p, so an item costs a few
operations on an integer. Whether something matches is the same as with `re`; what a group captured is not known.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Protocol

MAX_EXPRESSION_CHARS: Final = 1024
MAX_GROUP_DEPTH: Final = 16

_TOKEN = re.compile(
    r"(?P<open>\((?:\?(?::|<?[=!])|(?P<extension>\?))?)|(?P<close>\))|(?P<bar>\|)"
    r"|(?P<repeat>[*+?]|\{(?:(?P<low>[0-9]+)(?:(?P<comma>,)(?P<high>[0-9]*))?|,(?P<most>[0-9]*))\})(?P<mode>[?+]?)"
    r"|(?P<single>\\.|\[\^?\]?(?:\\.|[^\]\\])*\]|.)",
    re.DOTALL,
)
_ANCHORS: Final = frozenset({"^", "$", r"\A", r"\Z", r"\b", r"\B"})
_ESCAPES: Final = frozenset("AZbBdDsSwW")
_LOOKAROUNDS: Final = frozenset({"(?=", "(?!", "(?<=", "(?<!"})


class NameText:
    """A module name, with the positions where single items match it; keep one while many expressions are tried."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: dict[re.Pattern[str], int] = {}
        self.end = 1 << len(text)
        self.everywhere = 2 * self.end - 1

    def positions_of(self, item: re.Pattern[str]) -> int:
        """The set of positions where an item of an expression matches."""
        found = self._found.get(item)
        if found is None:
            found = sum(1 << position for position in range(len(self._text) + 1) if item.match(self._text, position))
            self._found[item] = found
        return found


class _Node(Protocol):
    def advance(self, text: NameText, positions: int) -> int:
        """Where the node can end when it starts at one of `positions`."""


@dataclass(frozen=True, slots=True)
class _Single:
    """One character: itself, an escape, `.` or a character class."""

    item: re.Pattern[str]

    def advance(self, text: NameText, positions: int) -> int:
        return (positions & text.positions_of(self.item)) << 1


@dataclass(frozen=True, slots=True)
class _Anchor:
    item: re.Pattern[str]

    def advance(self, text: NameText, positions: int) -> int:
        return positions & text.positions_of(self.item)


@dataclass(frozen=True, slots=True)
class _Repeat:
    """`low` to `high` characters of one kind; `high` is None without a bound."""

    item: re.Pattern[str]
    low: int
    high: int | None

    def advance(self, text: NameText, positions: int) -> int:
        matching = text.positions_of(self.item)
        for _ in range(self.low):
            if not positions:
                return 0
            positions = (positions & matching) << 1
        if self.high is None:
            # The carry of the sum runs to the end of each run of matching characters (MatchStar in Cameron et al.,
            # "Bitwise data parallelism in regular expression matching", PACT 2014).
            return (((positions & matching) + matching) ^ matching) | positions
        reached = positions
        for _ in range(self.high - self.low):
            positions = (positions & matching) << 1
            if not positions:
                break
            reached |= positions
        return reached


@dataclass(frozen=True, slots=True)
class _Group:
    """Alternatives, each a sequence of nodes."""

    alternatives: tuple[tuple[_Node, ...], ...]

    def advance(self, text: NameText, positions: int) -> int:
        reached = 0
        for alternative in self.alternatives:
            found = positions
            for node in alternative:
                if not found:
                    break
                found = node.advance(text, found)
            reached |= found
        return reached


@dataclass(frozen=True, slots=True)
class _Optional:
    body: _Node

    def advance(self, text: NameText, positions: int) -> int:
        return positions | self.body.advance(text, positions)


@dataclass(frozen=True, slots=True)
class _Lookaround:
    """`(?=…)`, `(?!…)`, `(?<=…)` or `(?<!…)`, by its opening."""

    opening: str
    body: _Group

    def advance(self, text: NameText, positions: int) -> int:
        if "<" in self.opening:
            # `re` lets only bodies of one fixed length look behind, so whatever ends here began at the right place.
            found = self.body.advance(text, text.everywhere)
        else:
            found = sum(bit for bit in _bits(positions) if self.body.advance(text, bit))
        return positions & (found if self.opening.endswith("=") else ~found)


@dataclass(frozen=True, slots=True)
class NameExpression:
    """An expression that is safe to match, whoever wrote it: the time is bounded by its length and the name's."""

    source: str
    body: _Group

    @classmethod
    def compile(cls, source: str) -> "NameExpression":
        """Prepare an expression.

        Raises:
            ValueError: it is no regular expression, or uses more than is matched here. The message goes on from
                the expression: "repeats a group: …".
        """
        if len(source) > MAX_EXPRESSION_CHARS:
            raise ValueError(f"is longer than {MAX_EXPRESSION_CHARS} characters")
        try:
            re.compile(source)
        except (re.error, RecursionError, OverflowError) as error:
            raise ValueError(f"is not a regular expression ({error})") from error
        return cls(source, _parse(source))

    def matches_whole(self, text: NameText) -> bool:
        """Whether `re.fullmatch` would find something."""
        return self.body.advance(text, 1) & text.end != 0

    def matches_ending(self, text: NameText) -> bool:
        r"""Whether the expression matches the whole name or an ending of it from a dot on.

        As `re.match(rf"(.*\.)?({source})$", name)`.
        """
        ends = self.body.advance(text, _PARENTS.advance(text, 1))
        return _END.advance(text, ends) != 0


class _OpenGroup:
    """A group that is being read."""

    def __init__(self, opening: str) -> None:
        self.opening = opening
        self.alternatives: list[list[_Node]] = [[]]

    def close(self) -> _Group | _Lookaround:
        group = _Group(tuple(map(tuple, self.alternatives)))
        return _Lookaround(self.opening, group) if self.opening in _LOOKAROUNDS else group


def _parse(source: str) -> _Group:
    """Read an expression that `re` accepts, so its groups are balanced and every repeat follows an item."""
    groups = [_OpenGroup("")]
    for token in _TOKEN.finditer(source):
        sequence = groups[-1].alternatives[-1]
        if token["open"]:
            _check_group(token, groups)
            groups.append(_OpenGroup(token["open"]))
        elif token["close"]:
            closed = groups.pop().close()
            groups[-1].alternatives[-1].append(closed)
        elif token["bar"]:
            groups[-1].alternatives.append([])
        elif token["repeat"]:
            sequence.append(_repeated(sequence.pop(), token))
        else:
            sequence.append(_single(token["single"]))
    return _Group(tuple(map(tuple, groups[0].alternatives)))


def _check_group(token: re.Match[str], groups: Iterable[_OpenGroup]) -> None:
    if token["extension"]:
        raise ValueError("uses a `(?…)` other than `(?:`, `(?=`, `(?!`, `(?<=` and `(?<!`: write it without")
    openings = [group.opening for group in groups]
    if len(openings) > MAX_GROUP_DEPTH:
        raise ValueError(f"nests groups more than {MAX_GROUP_DEPTH} deep: list the names")
    # Looking ahead costs one walk for each position; within each other they would multiply.
    if token["open"] in _LOOKAROUNDS and not _LOOKAROUNDS.isdisjoint(openings):
        raise ValueError("looks around inside a group that looks around: write them one after the other")


def _repeated(node: _Node, token: re.Match[str]) -> _Node:
    if token["mode"] == "+":
        raise ValueError(f"uses the possessive repeat `{token[0]}`: leave the last `+` out")
    if isinstance(node, _Single):
        return _Repeat(node.item, *_bounds(token))
    if token["repeat"] != "?":
        raise ValueError("repeats a group: list the names, or repeat single characters only")
    return _Optional(node)


def _bounds(token: re.Match[str]) -> tuple[int, int | None]:
    match token["repeat"]:
        case "*":
            return 0, None
        case "+":
            return 1, None
        case "?":
            return 0, 1
    low = int(token["low"] or 0)
    if token["low"] and not token["comma"]:
        return low, low
    most = token["high"] or token["most"]
    return low, int(most) if most else None


def _single(item: str) -> _Node:
    if item[0] == "\\" and item[1].isascii() and item[1].isalnum() and item[1] not in _ESCAPES:
        raise ValueError(f"uses the escape `{item}`: write the character itself, and no references to groups")
    pattern = re.compile(item)
    return _Anchor(pattern) if item in _ANCHORS else _Single(pattern)


def _bits(positions: int) -> Iterable[int]:
    """The positions of a set, each as a set of its own."""
    while positions:
        bit = positions & -positions
        yield bit
        positions ^= bit


_PARENTS: Final = _parse(r"(.*\.)?")
_END: Final = _parse("$")
