"""Copies run when nobody waits for an answer, make way the moment somebody does, and are counted."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from adapters_store import parse_adapter_ref
from server.api.generation.admission import Admission
from server.api.generation.attempt import Attempt
from server.api.generation.choice_text import ChoiceText, EncodedPrompt, TextOptions
from server.api.metrics.task_metrics import TaskMetrics
from server.api.routing.adapter_demand import AdapterDemand
from server.api.routing.model_names import Target
from server.api.routing.shadowing import MAX_AGE_SECONDS, MAX_BACKLOG, QUIET_SECONDS, RequestCopy, Shadowing
from server.api.text.tokenization import Tokenization
from server.engine.messages import EngineState, Failed, ResidentAdapter, SamplingParams, Submit
from server.errors import ContextLengthExceeded
from tests.api.harness import Bench, until
from tests.api.scripted_engine import Script, Wait, saying, started, tokens

pytestmark = pytest.mark.anyio

ROWS = 4
BASE = Target(None)


class Bed:
    """Shadowing over a scripted engine that is ready and idle."""

    def __init__(self, bench: Bench, script: Script, beside: int = 0) -> None:
        self.tokenization = Tokenization.load(bench.base)
        self.engine = bench.engine(script)
        self.engine.status = "ready"
        self.admission = Admission(100)
        self.registry = CollectorRegistry()
        self.now = 0.0
        self.state: EngineState | None = state()
        self.shadowing = Shadowing(
            self.engine,
            self.admission,
            AdapterDemand(lambda: self.state, lambda: self.now),
            TaskMetrics(self.registry, 10),
            lambda: self.state,
            rows=ROWS,
            beside=beside,
            clock=lambda: self.now,
        )

    def offer(self, count: int = 1, *, target: Target = BASE, stop: str | None = None, **fields: Any) -> None:
        options = TextOptions(stops=(stop,) if stop is not None else ())

        async def prepare() -> Attempt:
            command = Submit(request_id="copy", prompt=[1], sampling=SamplingParams(max_tokens=9), fallback="error")
            return Attempt(target, command, ChoiceText(0, EncodedPrompt([1]), options, self.tokenization))

        for _ in range(count):
            self.shadowing.offer(RequestCopy(**({"prepare": prepare} | fields), task="t", name="b", target=target))

    @contextmanager
    def answering(self) -> Iterator[None]:
        """A request is on its way."""
        place = self.admission.enter()
        yield
        place.leave()

    def counted(self, outcome: str) -> float:
        labels = {"task": "t", "adapter": "b", "outcome": outcome}
        return self.registry.get_sample_value("switchyard_shadow_requests_total", labels) or 0.0

    def value(self, metric: str, **labels: str) -> float:
        return self.registry.get_sample_value(metric, {"task": "t", "adapter": "b"} | labels) or 0.0


def state(*resident: ResidentAdapter, waiting: int = 0, budget: int = 10_000) -> EngineState:
    return EngineState(
        running=0,
        waiting=waiting,
        kv_blocks_used=0,
        kv_blocks_total=1,
        prefix_hit_tokens=0,
        prefix_lookup_tokens=0,
        preemptions=0,
        rows_taken_back=0,
        adapter_bytes=0,
        adapter_budget_bytes=budget,
        resident=list(resident),
        waiting_adapters=[],
    )


async def test_a_copy_runs_on_an_idle_server_and_is_counted(bench: Bench) -> None:
    said = bench.ids("hello world")
    bed = Bed(bench, saying(said))
    bed.offer(answer="hello world")
    bed.offer(answer="hello there")
    bed.offer(answer=None)
    await until(lambda: bed.counted("stop") == 3)
    assert bed.value("switchyard_shadow_generation_tokens_total") == 3 * len(said)
    assert bed.value("switchyard_shadow_seconds_count") == 3
    assert bed.value("switchyard_shadow_comparisons_total", result="same") == 1
    assert bed.value("switchyard_shadow_comparisons_total", result="different") == 1


async def test_a_copy_waits_while_an_answer_is_on_its_way(bench: Bench) -> None:
    bed = Bed(bench, saying([5]))
    with bed.answering():
        bed.offer()
        await asyncio.sleep(2 * QUIET_SECONDS)
        assert bed.engine.submitted == []
    await until(lambda: bed.counted("stop") == 1)


async def test_a_client_that_asks_again_at_once_meets_no_copy(bench: Bench) -> None:
    bed = Bed(bench, saying([5]))
    bed.offer()
    for _ in range(4):
        await asyncio.sleep(QUIET_SECONDS / 2)
        with bed.answering():
            pass
    assert bed.engine.submitted == []
    await until(lambda: bed.counted("stop") == 1)


async def test_a_copy_is_cancelled_before_the_engine_hears_of_the_next_request(bench: Bench) -> None:
    never = asyncio.Event()
    bed = Bed(bench, lambda request: [started(request), Wait(never), tokens(request, [], "stop")])
    bed.offer(3)
    await until(lambda: len(bed.engine.submitted) == 3)
    assert bed.engine.cancelled == []
    with bed.answering():
        assert len(bed.engine.cancelled) == 3, "at once: without giving the event loop a turn"
        bed.engine.script = saying([5])
    await until(lambda: bed.counted("stop") == 3)
    assert len(bed.engine.submitted) == 6, "the cancelled ones ran again"
    assert bed.counted("failed") == bed.counted("dropped") == 0


async def test_no_more_copies_run_than_the_engine_has_rows(bench: Bench) -> None:
    go_on = asyncio.Event()
    bed = Bed(bench, lambda request: [started(request), Wait(go_on), tokens(request, [5], "stop")])
    bed.offer(ROWS + 3)
    await until(lambda: len(bed.engine.submitted) == ROWS)
    await asyncio.sleep(2 * QUIET_SECONDS)
    assert len(bed.engine.submitted) == ROWS
    go_on.set()
    await until(lambda: bed.counted("stop") == ROWS + 3)


async def test_some_may_run_beside_answers_where_the_operator_says_so(bench: Bench) -> None:
    never = asyncio.Event()
    bed = Bed(bench, lambda request: [started(request), Wait(never)], beside=2)
    with bed.answering():
        bed.offer(4)
        await until(lambda: len(bed.engine.submitted) == 2)
        with bed.answering(), bed.answering():
            assert len(bed.engine.cancelled) == 1, "of four rows three are answers': one is left"
            bed.state = state(waiting=1)
            bed.shadowing.adjust()
            assert len(bed.engine.cancelled) == 2, "a request waits"
    bed.state = None
    with bed.answering():
        bed.shadowing.adjust()
        assert len(bed.engine.cancelled) == len(bed.engine.submitted), "nothing is known of the engine"


async def test_the_backlog_is_short_and_what_is_too_many_or_too_old_is_dropped(bench: Bench) -> None:
    bed = Bed(bench, saying([5]))
    with bed.answering():
        bed.offer(MAX_BACKLOG + 3)
        assert bed.counted("dropped") == 3
        bed.now = MAX_AGE_SECONDS + 1
    await until(lambda: bed.counted("dropped") == MAX_BACKLOG + 3)
    assert bed.engine.submitted == []


async def test_a_copy_runs_only_where_its_adapter_has_a_place_beside_those_in_use(bench: Bench) -> None:
    bench.publish("b")
    bed = Bed(bench, saying([5]))
    target = Target(bench.store.resolve(parse_adapter_ref("b")))
    assert target.version is not None
    size = target.version.metadata.parameters * 4
    used = ResidentAdapter(name="other", digest="sha256:0", rank=4, size_bytes=101, pinned=True)
    bed.state = state(used, budget=size + 100)
    bed.offer(target=target)
    await until(lambda: bed.counted("dropped") == 1)
    bed.state = None
    bed.offer(target=target)
    await until(lambda: bed.counted("dropped") == 2)
    bed.state = state(used, budget=size + 101)
    bed.offer(target=target)
    await until(lambda: bed.counted("stop") == 1)


async def test_copies_of_several_adapters_must_fit_together(bench: Bench) -> None:
    never = asyncio.Event()
    bed = Bed(bench, lambda request: [started(request), Wait(never)])
    first, second = (bench.publish(name, seed) for seed, name in enumerate(("b", "c")))
    assert first != second
    b, c = (Target(bench.store.resolve(parse_adapter_ref(name))) for name in ("b", "c"))
    assert b.version is not None
    bed.state = state(budget=2 * b.version.metadata.parameters * 4 - 1)
    bed.offer(2, target=b)
    bed.offer(target=c)
    await until(lambda: bed.counted("dropped") == 1)
    await until(lambda: len(bed.engine.submitted) == 2)


async def test_a_stop_string_ends_a_copy(bench: Bench) -> None:
    bed = Bed(bench, saying(bench.ids("hello world"), "length"))
    bed.offer(stop=" w", answer="hello")
    await until(lambda: bed.counted("stop") == 1)
    assert bed.value("switchyard_shadow_comparisons_total", result="same") == 1
    assert len(bed.engine.cancelled) == 1


async def test_a_failure_is_counted_and_hurts_no_other(bench: Bench) -> None:
    bed = Bed(bench, lambda request: [Failed(request_id=request.request_id, code="engine_failed", message="no")])
    bed.offer()
    await until(lambda: bed.counted("failed") == 1)

    async def too_long() -> Attempt:
        raise ContextLengthExceeded("the prompt does not fit")

    async def broken() -> Attempt:
        raise RuntimeError("a bug")

    bed.offer(prepare=too_long)
    bed.offer(prepare=broken)
    await until(lambda: bed.counted("failed") == 3)
    bed.engine.status = "restarting"
    bed.offer()
    await until(lambda: bed.counted("failed") == 4)
    bed.engine.status, bed.engine.script = "ready", saying([5])
    bed.offer()
    await until(lambda: bed.counted("stop") == 1)


async def test_the_end_of_the_server_drops_them_all(bench: Bench) -> None:
    never = asyncio.Event()
    bed = Bed(bench, lambda request: [started(request), Wait(never)])
    bed.offer(ROWS + 2)
    await until(lambda: len(bed.engine.submitted) == ROWS)
    await bed.shadowing.close()
    assert bed.counted("dropped") == ROWS + 2
    assert len(bed.engine.cancelled) == ROWS
    bed.offer()
    assert bed.counted("dropped") == ROWS + 2
