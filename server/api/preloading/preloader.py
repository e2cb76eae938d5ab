"""Tells the engine what will be asked for: the rates of the traffic, and what operators want."""

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from adapters_store import StoreError, UnknownAdapter, Version, parse_adapter_ref
from adapters_store.names import AdapterName, AdapterRef
from server.adapters.traffic.traffic_history import TrafficHistory, TrafficRecord
from server.adapters.traffic.traffic_model import TrafficModel
from server.api.preloading.operator_wishes import OperatorWishes, traffic_key
from server.api.preloading.pin_file import PinFile
from server.api.routing.model_names import Target
from server.config import Settings
from server.engine.interface import Engine
from server.engine.messages import AdapterVersion, Forecast, ForetoldVersion
from server.errors import PinNotKept

logger = logging.getLogger(__name__)

LEAST_RATE = 1 / 86_400
"""What is asked for less than once a day is not foretold."""

_SAVE_SECONDS = 300.0
_WATCH_SECONDS = 0.25
_SPARE = 32  # names that may turn out to be deleted or retired


def history_path(settings: Settings, store: Path) -> Path:
    """Where the traffic's history is kept: beside the cached bases and not in the store, which holds adapters alone."""
    if settings.traffic_history is not None:
        return settings.traffic_history
    name = hashlib.sha256(str(store.resolve()).encode()).hexdigest()[:16]
    return settings.cache_dir / "traffic" / f"{name}.history"


class Preloader:
    """Follows the requests that were accepted, and foretells every `interval` seconds while the engine is ready.

    `resolve` says what a name means now; it may block, and is called in a thread. All methods are called on the event
    loop. With `predicts` false only what operators want is foretold; the traffic is followed all the same.
    """

    def __init__(
        self,
        engine: Engine,
        resolve: Callable[[AdapterRef], Version],
        history: TrafficHistory,
        pin_file: PinFile,
        wishes: OperatorWishes,
        *,
        predicts: bool,
        interval: float,
        top: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.model = TrafficModel()
        self.wishes = wishes
        self._engine = engine
        self._resolve = resolve
        self._history = history
        self._pin_file = pin_file
        self._top = top if predicts else 0
        self._interval = interval
        self._clock = clock
        self._changed = asyncio.Event()
        self._is_unsaved = False
        self._saves = asyncio.Lock()
        self._pinning = asyncio.Lock()
        self._told: set[str] = set()

    @classmethod
    def of_settings(
        cls, settings: Settings, store: Path, engine: Engine, resolve: Callable[[AdapterRef], Version]
    ) -> "Preloader":
        """The one that a server's settings ask for; `store` is the store's directory.

        Raises:
            ConfigurationError: the plan's file is no plan.
        """
        history = history_path(settings, store)
        return cls(
            engine,
            resolve,
            TrafficHistory(history),
            PinFile(history.with_name(history.name + ".pins")),
            OperatorWishes(settings.preload_plan),
            predicts=settings.preload,
            interval=settings.preload_interval,
            top=settings.preload_top,
        )

    def now(self) -> float:
        """Unix time, as the model has it."""
        return self._clock()

    def asked(self, target: Target) -> None:
        """A request for a target was accepted."""
        if target.ref is not None:
            self.model.observe(traffic_key(target.ref), self._clock())
            self._is_unsaved = True

    async def pin(self, ref: AdapterRef, *, pinned: bool) -> None:
        """Want an adapter resident, or no longer; kept across restarts, and foretold at once.

        Raises:
            PinNotKept: it cannot be written; nothing was changed.
        """
        key = traffic_key(ref)
        async with self._pinning:
            others = tuple(pin for pin in self.wishes.pins if pin != key)
            if pinned and key not in self.wishes.pins:
                await self._have_pins((*others, key))
            elif not pinned and others != self.wishes.pins:
                await self._have_pins(others)

    async def forget_pins(self, name: AdapterName) -> None:
        """Take back what was pinned of an adapter that is gone: a later one of its name is another."""
        async with self._pinning:
            await self._forget([pin for pin in self.wishes.pins if parse_adapter_ref(pin).name == name])

    async def _have_pins(self, pins: tuple[str, ...]) -> None:
        await asyncio.to_thread(self._pin_file.save, pins)
        self.wishes.pins = pins
        self._changed.set()

    async def _forget(self, pins: Sequence[str]) -> None:
        """Take pins back that mean nothing any more. The caller holds the lock of pins."""
        if not pins:
            return
        left = tuple(pin for pin in self.wishes.pins if pin not in pins)
        try:
            await self._have_pins(left)
        except PinNotKept as error:
            logger.error("%s; %s is pinned again at the next start, should it be there then", error.message, pins)
            self.wishes.pins = left

    def restore(self) -> None:
        """Know what was known when the server ended; blocks."""
        self._history.load(self.model, self._clock())
        self.wishes.pins = self._pin_file.load()

    async def run(self) -> None:
        """Foretell and save until cancelled."""
        saved = time.monotonic()
        while True:
            heard = self._hearing()
            self._changed.clear()
            if self._engine.status == "ready":
                try:
                    await self.foretell()
                except Exception:
                    logger.exception("the traffic's forecast could not be made")
            if time.monotonic() - saved >= _SAVE_SECONDS:
                await self.save()
                saved = time.monotonic()
            await self._pause(heard)

    async def foretell(self) -> None:
        """Send one forecast: first what operators want, then the hottest."""
        now = self._clock()
        wanted = await asyncio.to_thread(self.wishes.wanted, now)
        rates = [(key, self.model.rate(key, now)) for key in wanted]
        hottest = self.model.hottest(self._top + _SPARE, now) if self._top else []
        versions = await asyncio.to_thread(self._foretold, rates, hottest)
        if self._engine.status == "ready":
            self._engine.foretell(Forecast(versions=versions))
        if not self._told.isdisjoint(self.wishes.pins):
            async with self._pinning:
                await self._forget(await asyncio.to_thread(self._deleted, self.wishes.pins))

    async def save(self) -> None:
        """Write the history, if there is anything new to write."""
        async with self._saves:
            if not self._is_unsaved:
                return
            self._is_unsaved = False
            record = TrafficRecord(traffic=self.model.state())
            try:
                await asyncio.to_thread(self._history.save, record)
            except OSError as error:
                self._is_unsaved = True
                reason = error.strerror or error
                logger.warning("the traffic history %s cannot be written: %s", self._history.path, reason)

    def _hearing(self) -> tuple[bool, int]:
        """Changes when an engine begins to take requests: it has heard of nothing yet."""
        return self._engine.status == "ready", self._engine.restarts

    async def _pause(self, heard: tuple[bool, int]) -> None:
        until = time.monotonic() + self._interval
        while (left := until - time.monotonic()) > 0 and self._hearing() == heard and not self._changed.is_set():
            await asyncio.sleep(min(left, _WATCH_SECONDS))

    def _foretold(
        self, wanted: Sequence[tuple[str, float]], hottest: Sequence[tuple[str, float]]
    ) -> list[ForetoldVersion]:
        """Each version once: what two names mean is asked for as often as both together."""
        pinned: dict[str, ForetoldVersion] = {}
        for key, rate in wanted:
            if (version := self._version(key)) is not None:
                pinned.setdefault(version.digest, ForetoldVersion(version=version, rate=rate, pinned=True))
            elif key not in self._told:
                self._told.add(key)
                logger.warning("%s is to be resident, but the store has no such adapter now", key)
        others: dict[str, tuple[AdapterVersion, float]] = {}
        for key, rate in hottest:
            if len(others) >= self._top or rate < LEAST_RATE:
                break
            version = self._version(key)
            if version is not None and version.digest not in pinned:
                others[version.digest] = version, rate + others.get(version.digest, (version, 0.0))[1]
        ordered = sorted(others.values(), key=lambda one: -one[1])
        return [*pinned.values(), *(ForetoldVersion(version=version, rate=rate) for version, rate in ordered)]

    def _version(self, key: str) -> AdapterVersion | None:
        """What a name means now; None where it means nothing, or the store cannot tell."""
        try:
            version = Target(self._resolve(parse_adapter_ref(key))).as_engine_version()
        except (StoreError, OSError):
            return None
        self._told.discard(key)
        return version

    def _deleted(self, pins: Sequence[str]) -> list[str]:
        """Pins whose adapter the store does not know, as after a deletion behind the server's back.

        An alias or version that is missing may come back; a store that is not there is an OSError and says nothing.
        """
        gone = []
        for key in pins:
            try:
                self._resolve(parse_adapter_ref(key))
            except UnknownAdapter as error:
                if error.is_name:
                    gone.append(key)
            except (StoreError, OSError):
                continue
        if gone:
            logger.warning("no longer pinned, since the store has no such adapter: %s", ", ".join(gone))
        return gone
