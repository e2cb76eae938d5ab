"""Where a request goes: by the arms, tiers, fallbacks and shadows of its task, as the store has them at that moment."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from adapters_store import CorruptVersion, InvalidName, UnknownAdapter, parse_adapter_name
from adapters_store.errors import CorruptTask, UnknownTask
from adapters_store.names import TaskName
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_rule import parse_rule
from server.api.metrics.task_metrics import TaskMetrics
from server.api.routing.adapter_demand import AdapterDemand
from server.api.routing.model_names import ModelNames, Target
from server.api.routing.router import Router, Routing
from server.engine.messages import EngineState, ResidentAdapter
from tests.api.harness import Bench

pytestmark = pytest.mark.anyio

BUDGET = 1000


class Bed:
    """A router over a store, a scripted device, and a clock."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.tasks = TaskDirectory.of_store(bench.store.root)
        self.registry = CollectorRegistry()
        self.state: EngineState | None = None
        self.now = 0.0
        self.router = Router(
            ModelNames(bench.store, "org/tiny"),
            resolve=bench.store.resolve,
            tasks=self.tasks,
            demand=AdapterDemand(lambda: self.state, lambda: self.now),
            metrics=TaskMetrics(self.registry, 10),
            adapter_budget_bytes=BUDGET,
            clock=lambda: self.now,
        )
        self.digests = {name: bench.publish(name, seed) for seed, name in enumerate(("a", "b", "c", "d"))}

    def set(self, **rule: Any) -> None:
        self.tasks.set(TaskName("summarise"), parse_rule(rule))

    async def route(self, model: str = "task:summarise", **labels: str) -> Routing:
        return await self.router.route(model, labels)

    async def first_targets(self, requests: int, **labels: str) -> Counter[str]:
        return Counter([(await self.route(**labels)).targets[0].name for _ in range(requests)])

    def others_use(self, size_bytes: int) -> None:
        """The device has a, b, c and d at 400, 200, 100 and 50 bytes, and rows that use others of so many bytes."""
        sizes = zip(self.digests.items(), (400, 200, 100, 50), strict=True)
        resident = [
            ResidentAdapter(name=name, digest=digest, rank=4, size_bytes=size, pinned=False)
            for (name, digest), size in sizes
        ]
        other = ResidentAdapter(name="other", digest="sha256:0", rank=4, size_bytes=size_bytes, pinned=True)
        self.state = EngineState(
            running=1,
            waiting=0,
            kv_blocks_used=0,
            kv_blocks_total=1,
            prefix_hit_tokens=0,
            prefix_lookup_tokens=0,
            preemptions=0,
            rows_taken_back=0,
            adapter_bytes=size_bytes,
            adapter_budget_bytes=BUDGET,
            resident=[*resident, other],
            waiting_adapters=[],
        )

    def counted(self, metric: str, **labels: str) -> float:
        return self.registry.get_sample_value(metric, labels) or 0.0


@pytest.fixture
def bed(bench: Bench) -> Bed:
    return Bed(bench)


def names(routing: Routing) -> list[str]:
    return [target.name for target in routing.targets]


async def test_a_model_is_one_target_and_no_task(bed: Bed) -> None:
    routing = await bed.route("a@latest")
    assert (names(routing), routing.shadows, routing.task, routing.rule) == (["a"], (), None, None)
    assert (await bed.route("base")).targets == (Target(None),)
    with pytest.raises(UnknownAdapter):
        await bed.route("nobody")


async def test_a_task_of_one_arm_is_its_adapter(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a@latest"}])
    routing = await bed.route()
    assert routing.targets[0].digest == bed.digests["a"]
    assert (routing.task, routing.rule) == ("summarise", "revision 1, arm a@latest")
    assert bed.counted("switchyard_task_requests_total", task="summarise", arm="a@latest", tier="0") == 1


async def test_a_canary_gets_its_share(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a", "weight": 90}, {"adapter": "b", "weight": 10}])
    shares = await bed.first_targets(300)
    assert shares["b"] == pytest.approx(30, abs=3)
    assert shares["a"] + shares["b"] == 300


async def test_concurrent_requests_get_the_same_shares(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a", "weight": 3}, {"adapter": "b", "weight": 1}])
    routings = await asyncio.gather(*(bed.route() for _ in range(200)))
    assert sum(names(routing) == ["b"] for routing in routings) == pytest.approx(50, abs=3)


async def test_a_label_stays_on_its_arm_where_the_rule_is_sticky(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a"}, {"adapter": "b"}], sticky="user")
    by_user = [await bed.first_targets(5, user=f"user-{number}") for number in range(20)]
    assert all(len(arms) == 1 for arms in by_user)
    assert {arm for arms in by_user for arm in arms} == {"a", "b"}
    assert len(await bed.first_targets(20)) == 2, "a request without the label goes by turns"
    assert len(await bed.first_targets(20, prompt_cache_key="k")) == 2, "only the label of the rule counts"


async def test_a_change_takes_effect_at_the_next_request(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a"}])
    assert names(await bed.route()) == ["a"]
    bed.set(arms=[{"adapter": "b"}])
    assert names(await bed.route()) == ["b"]
    # As another process does it: with a directory object of its own.
    TaskDirectory.of_store(bed.bench.store.root).rollback(TaskName("summarise"))
    routing = await bed.route()
    assert (names(routing), routing.rule) == (["a"], "revision 3, arm a")


async def test_a_moved_alias_takes_effect_at_the_next_request(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a"}])
    moved = bed.bench.publish("a", seed=9)
    assert (await bed.route()).targets[0].digest == moved


async def test_the_fallback_chain_follows_the_arm(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a"}], fallback=["c", "a@latest", "base"])
    routing = await bed.route()
    assert names(routing) == ["a", "c", "base"], "a version is tried once, under whatever name"


async def test_a_missing_adapter_goes_to_the_next_and_is_counted(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a@prod"}], fallback=["nobody", "c", "gone"])
    routing = await bed.route()
    assert names(routing) == ["c"]
    assert routing.rule == "revision 1, arm a@prod, without a@prod, nobody"
    assert bed.counted("switchyard_task_fallbacks_total", task="summarise", reason="unresolved") == 2


async def test_a_task_without_any_adapter_is_not_found(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "gone"}], fallback=["lost"])
    with pytest.raises(UnknownTask, match=r"no adapter 'gone'.*no adapter 'lost'") as refusal:
        await bed.route()
    assert refusal.value.param == "model"


async def test_damage_is_told_before_absence(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "gone"}], fallback=["a"])
    for path in (bed.bench.store.root / "names").glob("*.json"):
        path.write_bytes(b"torn")
    with pytest.raises(CorruptVersion):
        await bed.route()


async def test_an_unknown_a_malformed_and_a_damaged_task_are_told_apart(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a"}])
    with pytest.raises(UnknownTask, match="did you mean 'summarise'") as unknown:
        await bed.route("task:sumarise")
    assert (unknown.value.status, unknown.value.code, unknown.value.param) == (404, "task_not_found", "model")
    with pytest.raises(InvalidName) as malformed:
        await bed.route("task:a/b")
    assert malformed.value.param == "model"
    next((bed.bench.store.root / "tasks").glob("*.json")).write_bytes(b"torn")
    with pytest.raises(CorruptTask):
        await bed.route()


TIERS = {"arms": [{"tiers": [{"adapter": "a"}, {"adapter": "b"}, {"adapter": "c"}]}], "fallback": ["d"]}


async def test_the_high_rank_answers_while_there_is_room_and_a_low_one_under_pressure(bed: Bed) -> None:
    bed.set(**TIERS)
    bed.others_use(100)
    assert names(await bed.route()) == ["a", "b", "c", "d"]
    bed.others_use(700)
    pressed = await bed.route()
    assert names(pressed) == ["b", "c", "a", "d"]
    assert pressed.rule == "revision 1, arm a,b,c, tier 1 (b)"
    bed.others_use(5000)
    assert names(await bed.route()) == ["c", "b", "a", "d"]
    bed.others_use(100)
    assert names(await bed.route())[0] == "c", "not before the hold time is over"
    bed.now = 11
    assert names(await bed.route())[0] == "a"
    assert bed.counted("switchyard_task_tier_steps_total", task="summarise", direction="down") == 2
    assert bed.counted("switchyard_task_tier_steps_total", task="summarise", direction="up") == 1
    assert bed.counted("switchyard_task_requests_total", task="summarise", arm="a,b,c", tier="2") == 2


async def test_requests_for_other_adapters_are_pressure_too(bed: Bed) -> None:
    bed.set(arms=[{"tiers": [{"adapter": "a"}, {"adapter": "c"}]}])
    bed.others_use(100)
    assert names(await bed.route())[0] == "a"
    bed.others_use(400)
    await bed.route("b")
    assert names(await bed.route())[0] == "c"


async def test_a_tier_that_the_store_lacks_is_left_out(bed: Bed) -> None:
    bed.set(arms=[{"tiers": [{"adapter": "gone"}, {"adapter": "a"}, {"adapter": "c"}]}])
    bed.others_use(0)
    routing = await bed.route()
    assert names(routing) == ["a", "c"]
    assert routing.rule == "revision 1, arm gone,a,c, tier 1 (a), without gone"


async def test_shadows_are_sampled(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a"}], shadow=[{"adapter": "b"}, {"adapter": "c@latest", "sample": 0.25}])
    routings = [await bed.route() for _ in range(200)]
    shadows = Counter(shadow.name for routing in routings for shadow in routing.shadows)
    assert shadows["b"] == 200
    assert shadows["c"] == pytest.approx(50, abs=4)
    assert {names(routing)[0] for routing in routings} == {"a"}
    both = next(routing for routing in routings if len(routing.shadows) == 2)
    assert both.choice is not None
    assert both.choice.shadows == ("b", "c@latest")


async def test_what_answers_is_not_mirrored_to_itself_and_a_missing_shadow_is_dropped(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a"}], shadow=[{"adapter": "a@latest"}, {"adapter": "gone"}])
    assert (await bed.route()).shadows == ()
    labels = {"task": "summarise", "adapter": "gone", "outcome": "dropped"}
    assert bed.counted("switchyard_shadow_requests_total", **labels) == 1


async def test_a_deleted_adapter_is_missing_from_the_next_request_on(bed: Bed) -> None:
    bed.set(arms=[{"adapter": "a"}], fallback=["b"])
    assert names(await bed.route()) == ["a", "b"]
    bed.bench.store.delete(parse_adapter_name("a"))
    assert names(await bed.route()) == ["b"]
