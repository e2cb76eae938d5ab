"""Where a request goes: what its `model` and `task` fields mean at this moment."""

import asyncio
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adapters_store import InvalidName, StoreError, UnknownAdapter, Version, parse_adapter_ref
from adapters_store.errors import UnknownTask
from adapters_store.names import TASK_PREFIX, AdapterRef, TaskName
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_document import TaskDocument
from adapters_store.task_rule import Arm
from server.api.metrics.task_metrics import TaskMetrics
from server.api.routing.adapter_demand import AdapterDemand
from server.api.routing.fallback_causes import UNRESOLVED
from server.api.routing.model_names import ModelNames, Target
from server.api.routing.rank_tiers import TierCandidate
from server.api.routing.task_traffic import TaskTraffic
from server.errors import AdapterUnavailable

Found = Target | StoreError
"""What an adapter's name means now, or why it means nothing."""


@dataclass(frozen=True)
class Missing:
    """An adapter that a rule names as `ref` and that the store does not have; `detail` says why."""

    ref: str
    detail: str


@dataclass(frozen=True)
class TaskChoice:
    """How a task route chose: by which revision of its rule, which arm, and which of the arm's tiers (from 0).

    `tier` is None where no tier of the arm is the first target. `missing` are the adapters that come before the first
    target and that the store does not have; `shadows` says as what the rule names the shadows of the routing.
    """

    revision: int
    arm: Arm
    tier: int | None = 0
    missing: tuple[Missing, ...] = ()
    shadows: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"revision {self.revision}, arm {self.arm}"
        if self.arm.tiers and self.tier is not None:
            text += f", tier {self.tier} ({self.arm.refs[self.tier]})"
        if self.missing:
            text += f", without {', '.join(missing.ref for missing in self.missing)}"
        return text


@dataclass(frozen=True)
class Routing:
    """The targets of one request, in the order in which they are tried.

    `targets` is never empty: each one after the first answers when the one before it could not be applied, and
    only the last may fall back to the base. `shadows` get a copy whose answer nobody sees. `task`, `rule` and
    `choice` say how a task route chose (`rule` in words), and are None where the client named a model.
    """

    targets: tuple[Target, ...]
    shadows: tuple[Target, ...] = ()
    task: str | None = None
    rule: str | None = None
    choice: TaskChoice | None = None

    @property
    def missing(self) -> tuple[Missing, ...]:
        """What the store lacks of the adapters before the first target."""
        return () if self.choice is None else self.choice.missing

    def without_stand_in(self) -> "Routing":
        """The same without the base, unless it is what the rule or the client wants in the first place.

        Raises:
            AdapterUnavailable: nothing else is left.
        """
        first = self.targets[0]
        if first.digest is None and not self.missing:
            return self
        targets = tuple(target for target in self.targets if target.digest is not None)
        if not targets:
            why = "; ".join(missing.detail for missing in self.missing)
            raise AdapterUnavailable(f"task {self.task!r} has only the base to answer: {why} ({UNRESOLVED})")
        if self.choice is None or targets[0] == first:
            return dataclasses.replace(self, targets=targets)
        choice = dataclasses.replace(self.choice, tier=None)
        return dataclasses.replace(self, targets=targets, choice=choice, rule=str(choice))


class Router:
    """Decides for every request what it runs on. Used from one event loop.

    `resolve` says what a task's adapter means now; it may block, and is called in a thread.
    """

    def __init__(
        self,
        names: ModelNames,
        *,
        resolve: Callable[[AdapterRef], Version],
        tasks: TaskDirectory,
        demand: AdapterDemand,
        metrics: TaskMetrics,
        adapter_budget_bytes: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._names = names
        self._version_of = resolve
        self._tasks = tasks
        self._demand = demand
        self._metrics = metrics
        self._budget_bytes = adapter_budget_bytes
        self._clock = clock
        self._traffic: dict[str, TaskTraffic] = {}

    async def route(self, model: str, labels: Mapping[str, str], *, field: str = "model") -> Routing:
        """What `model` means now. `labels` are the request's own (`user`, `prompt_cache_key`, …), by field.

        `field` is where the client named a task, for errors.

        Raises:
            InvalidName: outside the grammar, on another base than the served one, or a composition.
            UnknownAdapter: no such adapter, alias or version.
            UnknownTask: no such task, or the store has none of the adapters that may answer.
            CorruptTask: the task's file is damaged.
        """
        if not model.startswith(TASK_PREFIX):
            target = await self._names.resolve(model)
            self._demand.asked_for(target)
            return Routing((target,))
        try:
            document = await self._task(model)
            routing = await self._route(document, labels)
        except (InvalidName, UnknownTask) as error:
            error.param = error.param or field
            raise
        self._demand.asked_for(routing.targets[0])
        return routing

    async def _task(self, model: str) -> TaskDocument:
        name = TaskName(model.removeprefix(TASK_PREFIX))
        try:
            # In a thread, as every read of the store: a disk that hangs must not stop the streams of others.
            return await asyncio.to_thread(self._tasks.get, name)
        except UnknownTask:
            self._traffic.pop(name.name, None)
            raise

    async def _route(self, document: TaskDocument, labels: Mapping[str, str]) -> Routing:
        task, rule = document.name, document.rule
        traffic = self._traffic.setdefault(task, TaskTraffic(task))
        traffic.forget_other_arms(rule)
        arm = traffic.choose_arm(rule, labels)
        sampled = [shadow.adapter for shadow in traffic.choose_shadows(rule)]
        refs = (*arm.refs, *rule.fallback)
        found = await asyncio.to_thread(self._resolve, {*refs, *sampled})
        tier = self._choose_tier(traffic, document, arm, found)
        targets = _targets([found[ref] for ref in (*_from_tier(arm.refs, tier or 0), *rule.fallback)])
        if not targets:
            raise _nothing_there(document, arm, found)
        missing = _missing_before(targets[0], refs, found)
        for _ in missing:
            self._metrics.passed_over(task, UNRESOLVED)
        self._metrics.routed(task, str(arm), tier)
        shadows = self._shadows(task, sampled, found, targets[0])
        choice = TaskChoice(document.current.number, arm, tier, missing, tuple(shadows))
        return Routing(targets, tuple(shadows.values()), task, str(choice), choice)

    def _resolve(self, refs: set[str]) -> dict[str, Found]:
        """What each adapter means now, or why it means nothing."""
        found: dict[str, Found] = {}
        for ref in refs:
            parsed = parse_adapter_ref(ref)
            try:
                found[ref] = Target(None) if parsed.is_base else Target(self._version_of(parsed), parsed)
            except StoreError as error:
                found[ref] = error
        return found

    def _choose_tier(
        self, traffic: TaskTraffic, document: TaskDocument, arm: Arm, found: Mapping[str, Found]
    ) -> int | None:
        """The tier of the arm that answers, among those that the store has; None where it has none of them."""
        tiers = [(place, target) for place, ref in enumerate(arm.refs) if isinstance(target := found[ref], Target)]
        if len(tiers) < 2:
            return tiers[0][0] if tiers else None
        candidates = [TierCandidate(target.name, target.digest, self._demand.size_of(target)) for _, target in tiers]
        demand = self._demand.now(self._budget_bytes)
        chosen, step = traffic.choose_tier(arm, candidates, demand, document.rule.pressure, self._clock())
        self._metrics.tier_step(document.name, step)
        return tiers[chosen][0]

    def _shadows(
        self, task: str, sampled: Sequence[str], found: Mapping[str, Found], answering: Target
    ) -> dict[str, Target]:
        """The shadows that the store has and that are not what answers anyway, by their names in the rule."""
        shadows = {}
        for ref in sampled:
            target = found[ref]
            if not isinstance(target, Target):
                self._metrics.shadow_ended(task, ref, "dropped")
            elif target.digest != answering.digest:
                shadows[ref] = target
        return shadows


def _from_tier(tiers: Sequence[str], first: int) -> tuple[str, ...]:
    """Tiers in the order in which they are tried: the chosen one, those further down, then those further up."""
    return (*tiers[first:], *reversed(tiers[:first]))


def _targets(found: Sequence[Found]) -> tuple[Target, ...]:
    """Those that are there, each version once."""
    by_digest: dict[str | None, Target] = {}
    for target in found:
        if isinstance(target, Target):
            by_digest.setdefault(target.digest, target)
    return tuple(by_digest.values())


def _missing_before(first: Target, refs: Sequence[str], found: Mapping[str, Found]) -> tuple[Missing, ...]:
    missing = []
    for ref in refs:
        target = found[ref]
        if target == first:
            break
        if isinstance(target, StoreError):
            missing.append(Missing(ref, target.message))
    return tuple(missing)


def _nothing_there(document: TaskDocument, arm: Arm, found: Mapping[str, Found]) -> StoreError:
    """Damage is told before absence: it is what an operator must mend."""
    errors = [found[ref] for ref in (*arm.refs, *document.rule.fallback)]
    for error in errors:
        if isinstance(error, StoreError) and not isinstance(error, UnknownAdapter):
            return error
    reasons = "; ".join(error.message for error in errors if isinstance(error, StoreError))
    return UnknownTask(
        f"task {document.name!r} (revision {document.current.number}) has no adapter that could answer: {reasons}"
    )
