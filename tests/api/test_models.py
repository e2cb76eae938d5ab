"""`/v1/models`: cards of the base and of the adapters."""

from datetime import datetime

import pytest

from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying

pytestmark = pytest.mark.anyio


async def test_the_list_holds_the_base_and_every_adapter(bench: Bench) -> None:
    bench.publish("zulu", seed=1)
    old = bench.publish("acme/support", seed=2)
    new = bench.publish("acme/support", seed=3)
    async with serving(bench, bench.engine(saying([])), served_name="org/tiny") as client:
        answer = (await client.get("/v1/models")).json()
    assert answer["object"] == "list"
    base, support, zulu = answer["data"]
    assert (base["id"], base["root"], base["parent"], base["digest"]) == ("org/tiny", "org/tiny", None, None)
    assert (support["id"], support["parent"], support["owned_by"]) == ("acme/support", "org/tiny", "acme")
    assert (support["digest"], support["root"]) == (new, f"acme/support@{new}")
    assert old != new
    assert (zulu["id"], zulu["owned_by"]) == ("zulu", "switchyard")
    assert all(card["object"] == "model" for card in answer["data"])
    published = datetime.fromisoformat(bench.store.list()[1].created)
    assert zulu["created"] == int(published.timestamp())


async def test_a_card_is_found_by_anything_that_a_request_may_name(bench: Bench) -> None:
    digest = bench.publish("acme/support", alias="prod")
    async with serving(bench, bench.engine(saying([])), served_name="org/tiny") as client:
        for name in ("acme/support@prod", f"acme/support@{digest}", "base:acme/support@prod"):
            card = (await client.get(f"/v1/models/{name}")).json()
            assert (card["id"], card["root"]) == (name, f"acme/support@{digest}")
        for name in ("base", "org/tiny"):
            assert (await client.get(f"/v1/models/{name}")).json()["parent"] is None
        missing = await client.get("/v1/models/acme/suport@prod")
    assert missing.status_code == 404
    assert missing.json()["error"]["code"] == "model_not_found"


async def test_an_adapter_without_a_latest_version_is_listed_by_what_can_be_asked(bench: Bench) -> None:
    old = bench.publish("support", alias="prod", seed=1)
    new = bench.publish("support", alias="staging", seed=2)
    async with serving(bench, bench.engine(saying([]))) as client:
        _, *cards = (await client.get("/v1/models")).json()["data"]
        shown = [(await client.get(f"/v1/models/{card['id']}")).json() for card in cards]
    assert [(card["id"], card["digest"]) for card in cards] == [("support@prod", old), ("support@staging", new)]
    assert shown == cards
