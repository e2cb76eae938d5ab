"""How often each adapter is asked for, and how often it will be.

Two decayed counts are kept for each key: a fast one (half-life 10 minutes), which says what happens now, and a slow one
(7 days), which says what is usual. With history there are profiles too: requests by hour of the day and by weekday.

    usual(t)   = slow rate * factor of t's hour * factor of t's weekday
    expected   = what `usual` would have brought in the fast window
    rate       = usual * min(1, (1 + seen) / (1 + expected)) + max(0, seen - expected - sqrt(seen)) / window

So a silent adapter loses its usual rate bit by bit, a surge counts for what is more than chance, and an adapter that is
asked for every Monday at nine is expected on Monday at nine although nobody has asked for it since Friday.
"""

import math
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import tzinfo

import numpy as np
import numpy.typing as npt

from server.adapters.traffic.seasonality import BUCKETS, HOURS, Exposure, Floats, Moment

FAST_HALF_LIFE = 600.0
SLOW_HALF_LIFE = 7 * 86_400.0
HORIZON = 120.0
"""How far the model looks ahead, in seconds: an hour that begins within it has begun already."""

_WEEK = 7 * 86_400.0
_FADING = 2 ** -(1 / 4)  # of profiles and what was watched, every week: they halve in four
_JITTER = 3600.0  # seconds that a clock may go back and is waited for; further back, it was wrong before
_YOUNGEST = 300.0  # a rate needs some time to be over
_PRIOR = 12.0  # requests' worth of the overall profile in every key's own
_KEPT = 0.9  # of the keys when there are too many


@dataclass(frozen=True, slots=True)
class Usage:
    """What is known of one key: requests in all, and when the last one came (Unix time)."""

    key: str
    requests: int
    last_asked: float
    rate: float


@dataclass(frozen=True)
class TrafficState:
    """Everything that a model knows, to be kept and restored. Columns have one entry a key, profiles `BUCKETS`."""

    started: float
    latest: float
    watched: float
    faded: float
    exposure: tuple[float, ...]
    keys: tuple[str, ...]
    fast: bytes
    slow: bytes
    last: bytes
    requests: bytes
    profiles: bytes


class TrafficModel:
    """Rates of up to `capacity` keys; beyond it the rarest are forgotten. Times are Unix seconds, given by the caller.

    A key is a name as it was asked for (`name` or `name@alias`), so that it can be resolved again later. An
    observation is a few list operations; what is asked of all keys at once is vectorised.
    """

    def __init__(self, *, capacity: int = 150_000, zone: tzinfo | None = None) -> None:
        self._capacity = capacity
        self._zone = zone
        self._rows: dict[str, int] = {}
        self._keys: list[str] = []
        self._fast = array("d")
        self._slow = array("d")
        self._last = array("d")
        self._requests = array("q")
        self._profiles = array("f")
        self._overall = array("d", [0.0] * BUCKETS)
        self._started: float | None = None
        self._latest = 0.0
        self._watched = 0.0
        self._faded = 0.0
        self._exposure = Exposure(zone)
        self._moment = Moment(0, 0, 0.0, 0.0)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: str) -> bool:
        return key in self._rows

    def observe(self, key: str, now: float) -> None:
        """One request for `key`. A time up to an hour before the last one counts as the last one.

        One further back means that the clock was ahead: what was seen later than that counts as seen now, so that it
        decays again, and does not stand until the clock is there once more.
        """
        now = self._at(now)
        row = self._rows.get(key)
        if row is None:
            row = self._new_row(key, now)
        age = now - self._last[row]
        self._fast[row] = self._fast[row] * 2.0 ** (-age / FAST_HALF_LIFE) + 1.0
        self._slow[row] = self._slow[row] * 2.0 ** (-age / SLOW_HALF_LIFE) + 1.0
        self._last[row] = now
        self._requests[row] += 1
        profile = row * BUCKETS
        self._profiles[profile + self._moment.hour] += 1.0
        self._profiles[profile + HOURS + self._moment.day] += 1.0
        self._overall[self._moment.hour] += 1.0
        self._overall[HOURS + self._moment.day] += 1.0

    def rate(self, key: str, at: float) -> float:
        """Requests a second that are predicted from `at` on, by what was observed until then."""
        row = self._rows.get(key)
        return 0.0 if row is None else float(self._rates(at, slice(row, row + 1))[0])

    def hottest(self, count: int, at: float) -> list[tuple[str, float]]:
        """The keys that are predicted to be asked for most often, the hottest first, with their requests a second."""
        rates = self._rates(at, slice(None))
        if count < len(rates):
            chosen = np.argpartition(rates, len(rates) - count)[len(rates) - count :] if count else np.empty(0, int)
        else:
            chosen = np.arange(len(rates))
        ordered = chosen[np.argsort(-rates[chosen], kind="stable")]
        return [(self._keys[row], float(rates[row])) for row in ordered]

    def usage(self, at: float) -> Iterator[Usage]:
        """What is known of every key, as it is now; the iterator may be read elsewhere and later."""
        rates = self._rates(at, slice(None)).tolist()
        return map(Usage, self._keys[:], self._requests[:], self._last[:], rates)

    @property
    def started(self) -> float | None:
        """When the first request was observed, by this model or by the one that it was restored from."""
        return self._started

    def state(self) -> TrafficState:
        """Everything that is known: one copy, taken in milliseconds."""
        return TrafficState(
            started=self._latest if self._started is None else self._started,
            latest=self._latest,
            watched=self._watched,
            faded=self._faded,
            exposure=tuple(self._exposure.seconds.tolist()),
            keys=tuple(self._keys),
            fast=self._fast.tobytes(),
            slow=self._slow.tobytes(),
            last=self._last.tobytes(),
            requests=self._requests.tobytes(),
            profiles=self._profiles.tobytes(),
        )

    def restore(self, state: TrafficState, now: float = math.inf) -> None:
        """Know what another model knew, in the place of what this one knows; times after `now` count as `now`.

        Raises:
            ValueError: the state does not fit together; nothing was changed.
        """
        fast, slow, last = (_floats("d", content) for content in (state.fast, state.slow, state.last))
        requests, profiles = array("q", state.requests), _floats("f", state.profiles)
        if any(count < 0 for count in requests):
            raise ValueError("a column has numbers that cannot be")
        size = len(state.keys)
        exposure = np.array(state.exposure)
        if len(set(state.keys)) != size or any(len(column) != size for column in (fast, slow, last, requests)):
            raise ValueError("the columns have other lengths than the list of names")
        times = np.array([state.started, state.latest, state.watched, state.faded])
        if len(profiles) != size * BUCKETS or exposure.shape != (BUCKETS,):
            raise ValueError("the profiles have another shape")
        if not (np.isfinite(exposure).all() and np.isfinite(times).all() and (times >= 0).all()):
            raise ValueError("a time is no number")
        self._fast, self._slow, self._last, self._requests, self._profiles = fast, slow, last, requests, profiles
        self._keys = list(state.keys)
        self._rows = {key: row for row, key in enumerate(self._keys)}
        self._started = state.started if size else None
        self._latest, self._watched, self._faded = state.latest, state.watched, state.faded
        self._clamp(now)
        self._exposure = Exposure(self._zone, exposure)
        self._overall = array("d", self._profile_columns().sum(axis=0, dtype=np.float64).tobytes())
        self._moment = Moment(0, 0, 0.0, 0.0)

    def _at(self, now: float) -> float:
        """Let time pass until `now`."""
        if self._started is None:
            self._started = self._latest = self._watched = self._faded = now
        if now < self._latest - _JITTER:
            self._clamp(now)
        self._latest = now = max(now, self._latest)
        if not self._moment.holds(now):
            self._exposure.watched(self._watched, now)
            self._watched = now
            self._moment = Moment.of(now, self._zone)
            if now - self._faded >= _WEEK:
                self._fade((now - self._faded) / _WEEK)
                self._faded = now
        return now

    def _clamp(self, now: float) -> None:
        """Let no time be after `now`."""
        self._started = None if self._started is None else min(self._started, now)
        self._latest, self._watched, self._faded = (min(at, now) for at in (self._latest, self._watched, self._faded))
        self._last = array("d", np.minimum(self._column(self._last), now).tobytes())

    def _new_row(self, key: str, now: float) -> int:
        if len(self._keys) >= self._capacity:
            self._forget_rarest(now)
        row = self._rows[key] = len(self._keys)
        self._keys.append(key)
        for column in (self._fast, self._slow):
            column.append(0.0)
        self._last.append(now)
        self._requests.append(0)
        self._profiles.extend([0.0] * BUCKETS)
        return row

    def _forget_rarest(self, now: float) -> None:
        """Keep the most of the keys that were asked for most lately; one pass, so seldom that it costs nothing."""
        worth = self._slow_now(now, slice(None)) + self._fast_now(now, slice(None))
        kept = np.sort(np.argpartition(-worth, int(self._capacity * _KEPT))[: int(self._capacity * _KEPT)])
        for name in ("_fast", "_slow", "_last", "_requests"):
            column = getattr(self, name)
            setattr(self, name, array(column.typecode, self._column(column)[kept].tobytes()))
        self._profiles = array("f", self._profile_columns()[kept].tobytes())
        self._keys = [self._keys[row] for row in kept]
        self._rows = {key: row for row, key in enumerate(self._keys)}

    def _fade(self, weeks: float) -> None:
        factor = _FADING**weeks
        self._exposure.fade(factor)
        self._overall = array("d", (factor * requests for requests in self._overall))
        if self._profiles:
            self._profile_columns()[:] *= np.float32(factor)

    def _rates(self, at: float, rows: slice) -> Floats:
        """Predicted requests a second of some rows."""
        if not self._keys:
            return np.zeros(0)
        assert self._started is not None
        age = max(at - self._started, _YOUNGEST)
        window = _window(FAST_HALF_LIFE, age)
        slow_rate = self._slow_now(at, rows) / _window(SLOW_HALF_LIFE, age)
        now, ahead = Moment.of(at, self._zone), Moment.of(at + HORIZON, self._zone)
        before = Moment.of(now.begins - 1.0, self._zone)
        season = _Season(self._exposure, self._overall, self._profile_columns()[rows])
        current = season.factor(now)
        usual = slow_rate * np.maximum(current, season.factor(ahead))
        in_this_hour = 1.0 - 2.0 ** (-(at - now.begins) / FAST_HALF_LIFE)
        expected = slow_rate * window * (in_this_hour * current + (1.0 - in_this_hour) * season.factor(before))
        seen = self._fast_now(at, rows)
        silence = np.minimum(1.0, (1.0 + seen) / (1.0 + expected))
        surge = np.maximum(0.0, seen - expected - np.sqrt(seen)) / window
        rates: Floats = usual * silence + surge
        return rates

    def _fast_now(self, at: float, rows: slice) -> Floats:
        return self._decayed(self._fast, FAST_HALF_LIFE, at, rows)

    def _slow_now(self, at: float, rows: slice) -> Floats:
        return self._decayed(self._slow, SLOW_HALF_LIFE, at, rows)

    def _decayed(self, counts: "array[float]", half_life: float, at: float, rows: slice) -> Floats:
        ages = np.maximum(0.0, at - self._column(self._last)[rows])
        decayed: Floats = self._column(counts)[rows] * np.exp2(-ages / half_life)
        return decayed

    def _profile_columns(self) -> npt.NDArray[np.float32]:
        return np.frombuffer(self._profiles, dtype=np.float32).reshape(-1, BUCKETS)

    @staticmethod
    def _column(column: "array[float] | array[int]") -> Floats:
        """A view; it must be gone before the column grows."""
        view: Floats = np.frombuffer(column, dtype=column.typecode) if column else np.zeros(0)
        return view


class _Season:
    """How much more than on average some rows are asked for at a moment."""

    def __init__(self, exposure: Exposure, overall: "array[float]", own: npt.NDArray[np.float32]) -> None:
        self._exposure = exposure
        self._overall = overall
        self._own = own
        # Every request counts in one hour of the day and in one weekday: both parts have the same sum.
        self._requests = own[:, HOURS:].sum(axis=1, dtype=np.float64)

    def factor(self, moment: Moment) -> Floats:
        """Of each row; 1 while there is too little history to tell."""
        of_hour = self._of(moment.hour, slice(0, HOURS))
        return of_hour * self._of(HOURS + moment.day, slice(HOURS, BUCKETS))

    def _of(self, bucket: int, among: slice) -> Floats:
        watched = self._exposure.share(bucket)
        if watched is None:
            return np.ones(len(self._own))
        usual = self._overall[bucket] / max(sum(self._overall[among]), 1e-9)
        share: Floats = (self._own[:, bucket] + _PRIOR * usual) / (self._requests + _PRIOR)
        return share / watched


def _window(half_life: float, age: float) -> float:
    """Over how many seconds a decayed count was gathered in effect, in a model of this age."""
    return half_life / math.log(2) * (1.0 - math.exp2(-age / half_life))


def _floats(typecode: str, content: bytes) -> "array[float]":
    """A column of counts or times.

    Raises:
        ValueError: it has others than finite numbers from zero up.
    """
    values = np.frombuffer(content, dtype=typecode)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise ValueError("a column has numbers that cannot be")
    column: array[float] = array(typecode)
    column.frombytes(content)
    return column
