"""`switchyard adapters usage`, `pin` and `unpin` against a server."""

import asyncio
from collections.abc import Callable

import pytest

from server.engine.messages import LookupReport
from tests.api.harness import Bench, live
from tests.api.metrics.test_registry import state
from tests.api.scripted_engine import saying
from tests.commands.command_line import Finished

pytestmark = pytest.mark.anyio

Run = Callable[..., Finished]


async def test_usage_is_a_table_and_a_curve_with_advice(bench: Bench, run: Run) -> None:
    bench.publish("acme/support")
    engine = bench.engine(saying([]))
    async with live(bench, engine) as url:
        engine.report(state())
        for _ in range(200):
            engine.report(LookupReport(name="a", digest="sha256:a", tier="device"))
        shown = await asyncio.to_thread(run, "adapters", "usage", "--url", url)
        data = await asyncio.to_thread(run, "adapters", "usage", "--unused-for", 30, "--json", "--url", url)
    assert shown.status == 0
    assert "acme/support" in shown.stdout
    assert "never" in shown.stdout
    assert "half the budget would hit as often" in shown.stdout
    for budget in ("0.5x", "1x", "16x"):
        assert f" {budget} " in shown.stdout
    assert data.json["data"] == []
    assert data.json["too_young"] is True


@pytest.mark.parametrize(("arguments", "warned"), [((), False), (("--unused-for", 30), True)])
async def test_a_history_that_is_too_young_to_tell_is_warned_of(
    bench: Bench, run: Run, arguments: tuple[object, ...], warned: bool
) -> None:
    async with live(bench, bench.engine(saying([]))) as url:
        shown = await asyncio.to_thread(run, "adapters", "usage", *arguments, "--url", url)
    assert shown.status == 0
    assert ("Warning: that is less than 30 days ago." in shown.stdout) is warned


async def test_a_pin_and_its_end(bench: Bench, run: Run) -> None:
    bench.publish("acme/support", alias="prod")
    async with live(bench, bench.engine(saying([]))) as url:
        pinned = await asyncio.to_thread(run, "adapters", "pin", "acme/support@prod", "--url", url)
        gone = await asyncio.to_thread(run, "adapters", "unpin", "acme/support@prod", "--json", "--url", url)
    assert pinned.stdout == "acme/support@prod is pinned; pinned now: acme/support@prod\n"
    assert (gone.json["pinned"], gone.json["pins"]) == (False, [])


def test_a_store_alone_does_not_know(run: Run) -> None:
    for arguments in (("usage",), ("pin", "a")):
        finished = run("adapters", *arguments)
        assert finished.status == 1
        assert "name one with --url" in finished.stderr
