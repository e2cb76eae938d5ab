"""What operators want resident whatever the traffic says: pins, and schedules of the week.

    {"zone": "Europe/Berlin",
     "pins": ["support@prod"],
     "schedules": [{"adapters": ["office"], "days": ["mon", "tue"], "from": "08:45", "to": "18:00"}]}

A plan is JSON, or TOML where the file is so named. A schedule whose `to` is not after its `from` ends on the next day.
"""

import tomllib
from collections.abc import Iterator
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from adapters_store import InvalidName, parse_adapter_ref
from adapters_store.atomic_file import read_limited
from server.errors import ConfigurationError

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]

DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

_LARGEST = 1 << 20


class Schedule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"begin": "from", "end": "to"}):
    """Adapters that are wanted from `begin` to `end` ("HH:MM") on some days; on all, unless given."""

    adapters: tuple[str, ...]
    begin: str
    end: str
    days: tuple[Day, ...] = DAYS

    def holds(self, local: datetime) -> bool:
        """Whether a local time lies in it."""
        begin, end, now = _clock(self.begin), _clock(self.end), local.time()
        today, yesterday = DAYS[local.weekday()], DAYS[(local - timedelta(days=1)).weekday()]
        if begin < end:
            return today in self.days and begin <= now < end
        return (today in self.days and now >= begin) or (yesterday in self.days and now < end)


class PreloadPlan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pins and schedules. `zone` is the time zone of the schedules, the machine's own unless given."""

    pins: tuple[str, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    zone: str | None = None

    @classmethod
    def read(cls, path: Path) -> "PreloadPlan":
        """The plan in a file.

        Raises:
            ConfigurationError: the file is not there, or no plan; the message names the field.
        """
        try:
            content = read_limited(path, _LARGEST)
            if path.suffix == ".toml":
                plan = msgspec.convert(tomllib.loads(content.decode()), cls)
            else:
                plan = msgspec.json.decode(content, type=cls)
            plan.check()
        except OSError as error:
            raise ConfigurationError(f"the preload plan {path} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise ConfigurationError(f"the preload plan {path} is not valid: {_told(error)}") from None
        return plan

    def check(self) -> None:
        """Raises ValueError where a name, a time or the zone is none; the message names the field."""
        for field, text in self._names():
            try:
                ref = parse_adapter_ref(text)
            except InvalidName as error:
                raise ValueError(f"{field}: {error.message}") from None
            if ref.is_base:
                raise ValueError(f"{field}: `base` is always resident; leave it out")
        for number, schedule in enumerate(self.schedules):
            for field, text in (("from", schedule.begin), ("to", schedule.end)):
                try:
                    _clock(text)
                except ValueError:
                    raise ValueError(f'schedules[{number}].{field}: {text!r} is no time as "08:45"') from None
            if not schedule.days:
                raise ValueError(f"schedules[{number}].days: is empty; leave it out for every day")
        try:
            self._zone()
        except (OSError, ValueError, LookupError):
            raise ValueError(f'zone: {self.zone!r} is no time zone as "Europe/Berlin"') from None

    def wanted(self, at: float) -> list[str]:
        """Pins, and the adapters of the schedules that hold at a Unix time, in the plan's order, each once."""
        local = datetime.fromtimestamp(at, self._zone())
        scheduled = (name for schedule in self.schedules if schedule.holds(local) for name in schedule.adapters)
        return list(dict.fromkeys((*self.pins, *scheduled)))

    def _zone(self) -> ZoneInfo | None:
        return None if self.zone is None else ZoneInfo(self.zone)

    def _names(self) -> Iterator[tuple[str, str]]:
        for number, name in enumerate(self.pins):
            yield f"pins[{number}]", name
        for number, schedule in enumerate(self.schedules):
            for place, name in enumerate(schedule.adapters):
                yield f"schedules[{number}].adapters[{place}]", name


def _clock(text: str) -> time:
    return datetime.strptime(text, "%H:%M").time()


def _told(error: ValueError) -> str:
    """msgspec says `… - at `$.schedules[0].from``: the field first, as in all other messages."""
    text, _, field = str(error).partition(" - at `$.")
    return f"{field.rstrip('`')}: {text}" if field else text
