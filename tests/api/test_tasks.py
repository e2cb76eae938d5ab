"""`/v1/tasks`: rules are set, shown, rolled back and deleted, and what is wrong is named."""

from typing import Any

import httpx
import pytest

from adapters_store.names import TaskName
from adapters_store.task_directory import TaskDirectory
from tests.api.harness import Bench, serving
from tests.api.metrics.test_registry import scrape
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio

CANARY = {"arms": [{"adapter": "a", "weight": 90.0}, {"adapter": "b", "weight": 10.0}]}
ONLY_A: dict[str, Any] = {"arms": [{"adapter": "a"}]}
CHAT: dict[str, Any] = {"model": "task:t", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture
def published(bench: Bench) -> Bench:
    bench.publish("a", 1)
    bench.publish("b", 2)
    return bench


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    body = answer.json()["error"]
    return answer.status_code, body["code"], body["param"]


async def test_a_life_of_a_task(published: Bench) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        created = await client.put("/v1/tasks/summarise", json=ONLY_A)
        assert (created.status_code, created.json()["revision"], created.json()["warnings"]) == (201, 1, [])
        same = await client.put("/v1/tasks/summarise", json=ONLY_A)
        assert (same.status_code, same.json()["revision"]) == (200, 1)
        changed = await client.put("/v1/tasks/summarise", json=CANARY)
        assert (changed.status_code, changed.json()["revision"]) == (200, 2)
        shown = (await client.get("/v1/tasks/summarise")).json()
        assert shown["rule"]["arms"] == CANARY["arms"]
        assert [revision["number"] for revision in shown["revisions"]] == [1, 2]
        assert (await client.get("/v1/tasks")).json() == {"object": "list", "data": [shown]}
        back = (await client.post("/v1/tasks/summarise/rollback", json={})).json()
        assert (back["revision"], back["rule"], back["revisions"][-1]["restores"]) == (3, ONLY_A, 1)
        again = (await client.post("/v1/tasks/summarise/rollback", json={"to": 2})).json()
        assert (again["revision"], again["rule"]["arms"]) == (4, CANARY["arms"])
        deleted = await client.delete("/v1/tasks/summarise")
        assert deleted.json() == {"id": "summarise", "object": "task", "deleted": True}
        assert error(await client.get("/v1/tasks/summarise")) == (404, "task_not_found", None)


async def test_a_rule_can_be_read_changed_and_put_back(published: Bench) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        rule = {
            "arms": [{"tiers": [{"adapter": "a"}, {"adapter": "b"}], "weight": 2.0}],
            "fallback": ["base"],
            "shadow": [{"adapter": "b", "sample": 0.5}],
            "sticky": "user",
            "pressure": {"down": 0.9, "up": 0.5, "hold_seconds": 1.0},
            "description": "Summaries of tickets",
        }
        assert (await client.put("/v1/tasks/t", json=rule)).status_code == 201
        shown = (await client.get("/v1/tasks/t")).json()["rule"]
        assert shown == rule
        assert (await client.put("/v1/tasks/t", json=shown)).json()["revision"] == 1


async def test_rules_outlive_the_server(published: Bench) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        await client.put("/v1/tasks/summarise", json=CANARY)
        before = (await client.get("/v1/tasks/summarise")).json()
    async with serving(published, published.engine(saying([]))) as client:
        assert (await client.get("/v1/tasks/summarise")).json() == before


async def test_of_two_operators_the_second_is_told(published: Bench) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        assert (await client.put("/v1/tasks/t?expect=0", json=ONLY_A)).status_code == 201
        assert (await client.put("/v1/tasks/t?expect=1", json=CANARY)).status_code == 200
        conflict = (409, "task_conflict", "expect")
        assert error(await client.put("/v1/tasks/t?expect=1", json=ONLY_A)) == conflict
        assert error(await client.put("/v1/tasks/t?expect=0", json=ONLY_A)) == conflict
        assert error(await client.post("/v1/tasks/t/rollback", json={"expect": 1})) == conflict
        assert error(await client.delete("/v1/tasks/t?expect=1")) == conflict
        assert (await client.delete("/v1/tasks/t?expect=2")).status_code == 200


@pytest.mark.parametrize(
    ("rule", "param"),
    [
        ({"arms": [{"adapter": "nobody"}]}, "arms[0].adapter"),
        ({"arms": [{"adapter": "a"}, {"tiers": [{"adapter": "b"}, {"adapter": "b@low"}]}]}, "arms[1].tiers[1].adapter"),
        ({"arms": [{"adapter": "a"}], "fallback": ["b", "gone"]}, "fallback[1]"),
        ({"arms": [{"adapter": "a"}], "shadow": [{"adapter": "gone"}]}, "shadow[0].adapter"),
    ],
)
async def test_every_adapter_of_a_rule_must_be_there_unless_said_otherwise(
    published: Bench, rule: dict[str, Any], param: str
) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        assert error(await client.put("/v1/tasks/t", json=rule)) == (400, "invalid_task", param)
        assert (await client.get("/v1/tasks")).json()["data"] == []
        allowed = await client.put("/v1/tasks/t?allow_unpublished=true", json=rule)
        assert allowed.status_code == 201
        assert [warning.partition(": ")[0] for warning in allowed.json()["warnings"]] == [param]


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/tasks/t", {"arms": []}, (400, "invalid_task", "arms")),
        ("/v1/tasks/t", {"arms": [{"adapter": "a"}], "weight": 1}, (400, "invalid_task", None)),
        ("/v1/tasks/t", [], (400, "invalid_task", None)),
        ("/v1/tasks/a b", ONLY_A, (400, "invalid_model_name", None)),
        ("/v1/tasks/t?expected=1", ONLY_A, (400, "unsupported_parameter", "expected")),
        ("/v1/tasks/t?expect=-1", ONLY_A, (400, "invalid_value", "expect")),
        ("/v1/tasks/t?expect=last", ONLY_A, (400, "invalid_value", "expect")),
    ],
)
async def test_what_is_wrong_is_named(
    published: Bench, path: str, body: object, expected: tuple[int, str, str | None]
) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        assert error(await client.put(path, json=body)) == expected
        assert (await client.get("/v1/tasks")).json()["data"] == []


async def test_a_rollback_names_what_is_wrong(published: Bench) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        await client.put("/v1/tasks/t", json=ONLY_A)
        assert error(await client.post("/v1/tasks/t/rollback", json={})) == (404, "task_not_found", None)
        assert error(await client.post("/v1/tasks/t/rollback", json={"to": 9})) == (404, "task_not_found", None)
        assert error(await client.post("/v1/tasks/t/rollback", json={"to": 0})) == (400, "invalid_value", "to")
        assert error(await client.post("/v1/tasks/t/rollback", json={"version": 1}))[1:] == (
            "unsupported_parameter",
            "version",
        )
        assert error(await client.post("/v1/tasks/no/rollback", json={})) == (404, "task_not_found", None)


async def test_a_rollback_to_an_adapter_that_is_gone_warns(published: Bench) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        await client.put("/v1/tasks/t", json=ONLY_A)
        await client.put("/v1/tasks/t", json={"arms": [{"adapter": "b"}]})
        await client.delete("/v1/adapters/a")
        back = (await client.post("/v1/tasks/t/rollback", json={})).json()
        assert back["rule"] == ONLY_A
        assert [warning.partition(": ")[0] for warning in back["warnings"]] == ["arms[0].adapter"]


async def test_the_base_in_the_place_of_an_adapter_that_is_gone_says_so(published: Bench) -> None:
    engine = published.engine(saying(published.ids("fine")))
    async with serving(published, engine) as client:
        await client.put("/v1/tasks/t", json=ONLY_A | {"fallback": ["base"]})
        await client.delete("/v1/adapters/a")
        answer = await client.post("/v1/chat/completions", json=CHAT)
        refused = await client.post("/v1/chat/completions", json=CHAT | {"fallback": "error"})
        read = await scrape(client)
    told = answer.json()["switchyard"]
    assert (told["adapter"], told["fallback"]["reason"]) == ("base", "unresolved")
    assert "there is no adapter 'a'" in told["fallback"]["detail"]
    assert answer.headers["x-adapter-fallback"] == "unresolved"
    assert error(refused) == (503, "adapter_unavailable", None)
    assert "there is no adapter 'a'" in refused.json()["error"]["message"]
    assert len(engine.submitted) == 1
    assert read("switchyard_adapter_fallbacks_total", reason="unresolved") == 1
    assert read("switchyard_adapter_refusals_total", reason="unresolved") == 1


async def test_a_base_that_the_rule_wants_and_another_adapter_are_no_fallback(published: Bench) -> None:
    async with serving(published, published.engine(saying(published.ids("fine")))) as client:
        await client.put("/v1/tasks/t", json={"arms": [{"adapter": "base"}]})
        wanted = await client.post("/v1/chat/completions", json=CHAT | {"fallback": "error"})
        await client.put("/v1/tasks/t", json=ONLY_A | {"fallback": ["b", "base"]})
        await client.delete("/v1/adapters/a")
        other = await client.post("/v1/chat/completions", json=CHAT | {"fallback": "error"})
    assert [answer.json()["switchyard"]["adapter"] for answer in (wanted, other)] == ["base", "b"]
    assert [answer.json()["switchyard"]["fallback"] for answer in (wanted, other)] == [None, None]


async def test_a_tier_that_is_gone_is_not_told_as_the_one_that_answers(published: Bench) -> None:
    async with serving(published, published.engine(saying(published.ids("fine")))) as client:
        tiers = {"arms": [{"tiers": [{"adapter": "a@latest"}, {"adapter": "b"}]}], "fallback": ["base"]}
        await client.put("/v1/tasks/t", json=tiers)
        await client.delete("/v1/adapters/a")
        await client.delete("/v1/adapters/b")
        told = (await client.post("/v1/chat/completions", json=CHAT)).json()["switchyard"]
    assert (told["adapter"], told["tier"]) == ("base", None)
    assert told["rule"] == "revision 1, arm a@latest,b, without a@latest, b"


async def test_a_damaged_task_is_told_and_hides_no_other(published: Bench) -> None:
    async with serving(published, published.engine(saying([]))) as client:
        await client.put("/v1/tasks/t", json=ONLY_A)
        next((published.store.root / "tasks").glob("*.json")).write_bytes(b"{")
        await client.put("/v1/tasks/other", json=ONLY_A)
        assert error(await client.get("/v1/tasks/t"))[:2] == (503, "corrupt_task")
        assert [task["id"] for task in (await client.get("/v1/tasks")).json()["data"]] == ["other"]


async def test_models_lists_tasks_so_that_clients_find_them(published: Bench) -> None:
    async with serving(published, published.engine(saying([])), served_name="org/tiny") as client:
        await client.put("/v1/tasks/summarise", json=CANARY)
        cards = (await client.get("/v1/models")).json()["data"]
        assert [card["id"] for card in cards] == ["org/tiny", "a", "b", "task:summarise"]
        assert (cards[-1]["owned_by"], cards[-1]["parent"], cards[-1]["digest"]) == ("switchyard", "org/tiny", None)
        assert (await client.get("/v1/models/task:summarise")).json() == cards[-1]
        assert error(await client.get("/v1/models/task:no")) == (404, "task_not_found", None)


async def test_a_change_is_one_line_of_the_log(published: Bench, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    async with serving(published, published.engine(saying([]))) as client:
        await client.put("/v1/tasks/t", json=CANARY)
    assert "set task t, revision 1: a (90), b (10)" in caplog.text
    assert TaskDirectory.of_store(published.store.root).get(TaskName("t")).current.number == 1
