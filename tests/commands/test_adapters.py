"""`switchyard adapters`: the same commands on a store and on a server, for people and for programs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from adapters_store import parse_adapter_name
from tests.adapters_store.hand_made import BASE, write_adapter
from tests.api.harness import Bench, live
from tests.api.scripted_engine import saying
from tests.commands.command_line import Finished

pytestmark = pytest.mark.anyio

Run = Callable[..., Finished]
KEY = "a key"


@pytest.fixture(params=["store", "server"])
async def where(
    bench: Bench, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[list[str]]:
    """The options that lead to one and the same store: directly, or through a server that wants a key."""
    if request.param == "store":
        yield ["--store", str(bench.store.root)]
        return
    monkeypatch.setenv("SWITCHYARD_API_KEY", KEY)
    async with live(bench, bench.engine(saying([])), api_key=KEY) as url:
        yield ["--url", url]


async def test_a_life_of_an_adapter(bench: Bench, where: list[str], run: Run) -> None:
    async def command(*arguments: object) -> Finished:
        return await asyncio.to_thread(run, "adapters", *arguments, *where, "--json")

    first = await command("push", "acme/support", bench.adapter_directory(1))
    assert first.status == 0
    old = first.json["digest"]
    promoted = await command("promote", "acme/support")
    assert (promoted.json["alias"], promoted.json["digest"], promoted.json["previous"]) == ("prod", old, None)
    second = await command("push", "acme/support", bench.adapter_directory(2), "--alias", "canary")
    new = second.json["digest"]
    assert (await command("promote", "acme/support@canary")).json["digest"] == new
    assert (await command("rollback", "acme/support")).json["digest"] == old
    assert (await command("promote", f"acme/support@{new}", "--alias", "prod")).json["digest"] == new
    shown = (await command("show", "acme/support")).json
    assert shown["aliases"] == {"canary": new, "latest": old, "prod": new}
    assert (await command("list")).json["data"] == [shown]
    assert (await command("delete", "acme/support")).json["deleted"] is True
    assert (await command("list")).json["data"] == []
    assert bench.store.list() == []


async def test_people_get_sentences_and_tables(bench: Bench, where: list[str], run: Run) -> None:
    async def command(*arguments: object) -> Finished:
        return await asyncio.to_thread(run, "adapters", *arguments, *where)

    bench.store.describe_base(BASE)
    pushed = await command("push", "support", bench.adapter_directory(1))
    digest = bench.store.get(parse_adapter_name("support")).aliases["latest"]
    assert pushed.stdout == f"support@latest is now {digest}\n"
    assert (await command("promote", "support")).stdout == f"support@prod is now {digest}\n"
    assert (await command("promote", "support")).stdout == f"support@prod is {digest} already\n"
    listed = await command("list")
    assert [line for line in listed.stdout.splitlines() if "prod" in line and digest in line]
    shown = await command("show", "support")
    assert "latest, prod" in shown.stdout
    assert (await command("delete", "support")).stdout == "support is deleted\n"
    assert {pushed.stderr, listed.stderr, shown.stderr} == {""}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["show", "nobody"], "there is no adapter 'nobody'"),
        (["delete", "nobody"], "there is no adapter 'nobody'"),
        (["promote", "support@staging"], "no alias 'staging'"),
        (["rollback", "support"], "no alias 'prod'"),
        (["show", "../etc"], "must be letters"),
        (["push", "base", "adapter-1"], "reserved"),
        (["push", "support", "empty"], "adapter_config.json"),
        (["push", "support", "missing"], "missing"),
    ],
)
async def test_a_failure_is_one_line_and_status_1(
    bench: Bench, where: list[str], run: Run, arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.publish("support", seed=1)
    (bench.scratch / "empty").mkdir()
    monkeypatch.chdir(bench.scratch)
    finished = await asyncio.to_thread(run, "adapters", *arguments, *where)
    assert finished.status == 1
    assert finished.stdout == ""
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1
    assert says in finished.stderr


async def test_a_warning_goes_to_stderr(bench: Bench, where: list[str], run: Run) -> None:
    source = write_adapter(bench.scratch / "other", config={"base_model_name_or_path": "elsewhere/other"})
    bench.store.describe_base(BASE)
    finished = await asyncio.to_thread(run, "adapters", "push", "support", source, *where)
    assert finished.status == 0
    assert finished.stderr.startswith("warning: ")
    assert "elsewhere/other" in finished.stderr


def test_the_store_comes_from_the_environment_or_is_the_folder_adapters(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.publish("support")
    monkeypatch.chdir(bench.scratch)
    nowhere = run("adapters", "list")
    assert (nowhere.status, nowhere.stdout) == (1, "")
    assert "no store at adapters" in nowhere.stderr
    assert not Path("adapters").exists()
    monkeypatch.setenv("SWITCHYARD_STORE", str(bench.store.root))
    assert [entry["id"] for entry in run("adapters", "list", "--json").json["data"]] == ["support"]
    assert run("adapters", "push", "support", bench.adapter_directory(2), "--store", "adapters").status == 0
    assert Path("adapters").is_dir()


def test_a_server_or_a_store_not_both(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_STORE", str(bench.store.root))
    both = run("adapters", "list", "--url", "http://127.0.0.1:1", "--store", bench.store.root)
    assert (both.status, "not both" in both.stderr) == (1, True)
    only_url = run("adapters", "list", "--url", "http://127.0.0.1:1")
    assert "cannot be reached" in only_url.stderr


@pytest.mark.parametrize("url", ["http://127.0.0.1:1", "127.0.0.1:8000", "ftp://x", "http://"])
def test_a_server_that_is_not_there_is_one_line(run: Run, url: str) -> None:
    finished = run("adapters", "list", "--url", url)
    assert finished.status == 1
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1


async def test_a_wrong_key_is_said(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_API_KEY", "another key")
    async with live(bench, bench.engine(saying([])), api_key=KEY) as url:
        finished = await asyncio.to_thread(run, "adapters", "list", "--url", url)
    assert (finished.status, "API key" in finished.stderr) == (1, True)
    assert "another key" not in finished.stderr
