"""What `switchyard tasks` is given, read with messages that say how to write it."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Final

import msgspec

from adapters_store import InvalidName
from adapters_store.names import TASK_PREFIX, TaskName
from adapters_store.quoting import quoted
from adapters_store.task_rule import TaskRule, parse_rule
from server.commands.failure import CommandFailed

STANDARD_INPUT: Final = Path("-")
_MAX_RULE_BYTES: Final = 4 * 1024 * 1024
_ALL: Final = Decimal(100)


@dataclass(frozen=True)
class RuleFlags:
    """A rule as flags say it: `adapter`, or `tiers` of it, less what `canaries` (NAME=SHARE) take away."""

    adapter: str | None = None
    tiers: Sequence[str] = ()
    canaries: Sequence[str] = ()
    fallbacks: Sequence[str] = ()
    shadows: Sequence[str] = ()
    sticky: str | None = None
    description: str | None = None

    def rule(self) -> TaskRule:
        """The rule that the flags stand for.

        Raises:
            CommandFailed: they do not make a rule.
            InvalidTask: the rule that they make may not be set.
        """
        if (self.adapter is None) == (not self.tiers):
            raise CommandFailed(
                "give --adapter, or --tier once for each tier, or a rule with --file, and not two of them; see --help"
            )
        canaries = [_shared("--canary", text) for text in self.canaries]
        rest = _ALL - sum((percent for _, percent in canaries), Decimal(0))
        if rest < 0:
            raise CommandFailed(f"the shares of --canary make more than {_ALL} %")
        main: dict[str, object] = {"weight": float(rest)}
        if self.adapter is None:
            main["tiers"] = [{"adapter": tier} for tier in self.tiers]
        else:
            main["adapter"] = self.adapter
        shadows = [_shared("--shadow", text, default=_ALL) for text in self.shadows]
        return parse_rule(
            {
                "arms": [main, *({"adapter": ref, "weight": float(percent)} for ref, percent in canaries)],
                "fallback": list(self.fallbacks),
                "shadow": [{"adapter": ref, "sample": float(percent / _ALL)} for ref, percent in shadows],
                "sticky": self.sticky,
                "description": self.description or "",
            }
        )


def rule_from(file: Path | None, flags: RuleFlags) -> TaskRule:
    """The rule of a JSON file (`-`: standard input), or else of flags.

    Raises:
        CommandFailed: both are given, or the file cannot be read or is no JSON.
        InvalidTask: the rule may not be set.
    """
    if file is None:
        return flags.rule()
    if flags != RuleFlags():
        raise CommandFailed("a rule is either in --file or in flags: write all of it into the file")
    try:
        with sys.stdin.buffer if file == STANDARD_INPUT else file.open("rb") as stream:
            text = stream.read(_MAX_RULE_BYTES)
        return parse_rule(msgspec.json.decode(text))
    except OSError as error:
        raise CommandFailed(f"cannot read {file}: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        raise CommandFailed(f"{file} is not JSON: {error}") from None


def task_name(text: str) -> TaskName:
    """The name of a task, with or without `task:` before it.

    Raises:
        CommandFailed: it is outside the grammar.
    """
    try:
        return TaskName(text.removeprefix(TASK_PREFIX))
    except InvalidName:
        raise CommandFailed(
            f"{quoted(text)} is no task's name: give letters, digits, . _ or -, a letter or digit first"
        ) from None


def _shared(flag: str, text: str, default: Decimal | None = None) -> tuple[str, Decimal]:
    """An adapter and its percentage, from `NAME=10%` or `NAME=0.1`."""
    ref, equals, share = text.partition("=")
    try:
        if not equals and default is not None:
            return ref, default
        percent = Decimal(share.removesuffix("%")) if share.endswith("%") else Decimal(share) * _ALL
        if not 0 <= percent <= _ALL:
            raise InvalidOperation
    except InvalidOperation:
        raise CommandFailed(
            f"{flag} {quoted(text)}: write it as NAME=10% or NAME=0.1, a share of the requests"
        ) from None
    return ref, percent
