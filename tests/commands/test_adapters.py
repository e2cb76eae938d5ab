"""`switchyard adapters`: the same commands on a store and on a server, for people and for programs."""

import asyncio
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from adapters_store import parse_adapter_name
from tests.adapters_store.fake_hub import configured_hub
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
    listed = (await command("list", "--limit", 1, "--after", "acme/support")).json
    assert (listed["data"], listed["has_more"]) == ([], False)
    moves = (await command("history", "acme/support")).json["history"]["prod"]
    assert [(move["digest"], move["reason"]) for move in moves] == [
        (old, "promote"),
        (new, "promote"),
        (old, "rollback"),
        (new, "promote"),
    ]
    assert (await command("unalias", "acme/support", "latest")).json["deleted"] is True
    assert (await command("retire", f"acme/support@{old}")).json["retired"] is not None
    assert (await command("restore", f"acme/support@{old}")).json["retired"] is None
    assert (await command("delete", "acme/support")).json["deleted"] is True
    assert (await command("list")).json["data"] == []
    assert bench.store.list() == []


async def test_a_version_is_noted(bench: Bench, where: list[str], run: Run) -> None:
    async def command(*arguments: object) -> Finished:
        return await asyncio.to_thread(run, "adapters", *arguments, *where, "--json")

    pushed = await command("push", "support", bench.adapter_directory(1), "--tag", "draft", "--source-job", "job-7")
    assert pushed.json["notes"]["tags"] == ["draft"]
    results = bench.scratch / "results.json"
    results.write_text('{"accuracy": 0.9, "passed": true}')
    tagged = await command("tag", "support", "--add", "good", "--remove", "draft", "--evaluation", f"@{results}")
    assert tagged.json["notes"] == {
        "source": "directory" if "--store" in where else "upload",
        "source_job": "job-7",
        "evaluation": {"accuracy": 0.9, "passed": True},
        "tags": ["good"],
    }
    assert (await command("show", "support")).json["versions"][0]["notes"] == tagged.json["notes"]


async def test_of_two_pushes_that_expect_the_same_one_fails(bench: Bench, where: list[str], run: Run) -> None:
    async def push(seed: int, expect: str) -> Finished:
        source = bench.adapter_directory(seed)
        return await asyncio.to_thread(run, "adapters", "push", "support", source, "--expect", expect, *where)

    assert (await push(1, "none")).status == 0
    late = await push(2, "none")
    assert (late.status, late.stdout) == (1, "")
    assert "read it again, then decide" in late.stderr


async def test_a_list_of_many_is_fetched_page_by_page(
    bench: Bench, where: list[str], run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("server.commands.remote_catalog._PAGE", 2)
    for number in range(5):
        bench.publish(f"name-{number}")
    listed = await asyncio.to_thread(run, "adapters", "list", "--json", *where)
    assert [entry["id"] for entry in listed.json["data"]] == [f"name-{number}" for number in range(5)]
    some = await asyncio.to_thread(run, "adapters", "list", "--json", "--limit", 3, "--after", "name-0", *where)
    assert [entry["id"] for entry in some.json["data"]] == ["name-1", "name-2", "name-3"]
    assert some.json["has_more"] is True


async def test_people_get_sentences_and_tables(bench: Bench, where: list[str], run: Run) -> None:
    async def command(*arguments: object) -> Finished:
        return await asyncio.to_thread(run, "adapters", *arguments, *where)

    bench.store.describe_base(BASE)
    pushed = await command("push", "support", bench.adapter_directory(1))
    digest = bench.store.get(parse_adapter_name("support")).aliases["latest"]
    assert pushed.stdout == f"support@latest is now {digest}\n"
    assert (await command("promote", "support")).stdout == f"support@prod is now {digest}\n"
    assert (await command("promote", "support")).stdout == f"support@prod is already {digest}\n"
    listed = await command("list")
    assert [line for line in listed.stdout.splitlines() if "prod" in line and digest in line]
    shown = await command("show", "support")
    assert "latest, prod" in shown.stdout
    assert "live" in shown.stdout
    assert "publish" in (await command("history", "support")).stdout
    tagged = await command("tag", "support", "--add", "good")
    assert tagged.stdout == f"support@{digest} is noted, tags: good\n"
    assert (await command("unalias", "support", "prod")).stdout == f"support@prod is removed, it was {digest}\n"
    await command("unalias", "support", "latest")
    assert (await command("retire", f"support@{digest}")).stdout == f"support@{digest} is retired\n"
    assert (await command("restore", f"support@{digest}")).stdout == f"support@{digest} is live\n"
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
        (["retire", "support"], "names no digest: give NAME@sha256:DIGEST"),
        (["retire", f"support@sha256:{'0' * 64}"], "no version"),
        (["restore", f"support@sha256:{'0' * 64}"], "no version"),
        (["unalias", "support", "prod"], "no alias 'prod'"),
        (["tag", "support"], "nothing to note"),
        (["tag", "support", "--add", "two words"], "tag 'two words'"),
        (["tag", "support", "--evaluation", "[1]"], "must be a JSON object"),
        (["tag", "support", "--evaluation", "{"], "no JSON object"),
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


def test_a_server_that_is_not_there_is_one_line(run: Run) -> None:
    finished = run("adapters", "list", "--url", "http://127.0.0.1:1")
    assert finished.status == 1
    assert finished.stderr.startswith("error: ")
    assert finished.stderr.count("\n") == 1


@pytest.mark.parametrize("url", ["127.0.0.1:8000", "localhost:8000", "ftp://x", "http://", "http://[", ""])
def test_a_url_that_is_not_one_is_a_wrong_usage_with_the_fix(run: Run, url: str) -> None:
    finished = run("adapters", "list", "--url", url)
    assert finished.status == 2
    assert "write it as http://127.0.0.1:8000" in " ".join(finished.stderr.split())


@pytest.mark.parametrize("ending", ["/", "/v1", "/v1/"])
async def test_a_url_may_end_as_clients_write_it(bench: Bench, run: Run, ending: str) -> None:
    bench.publish("support")
    async with live(bench, bench.engine(saying([]))) as url:
        listed = await asyncio.to_thread(run, "adapters", "list", "--json", "--url", url + ending)
    assert [entry["id"] for entry in listed.json["data"]] == ["support"]


async def test_a_wrong_key_is_said(bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWITCHYARD_API_KEY", "another key")
    async with live(bench, bench.engine(saying([])), api_key=KEY) as url:
        finished = await asyncio.to_thread(run, "adapters", "list", "--url", url)
    assert finished.status == 1
    assert "set SWITCHYARD_API_KEY to the server's key" in finished.stderr
    assert "another key" not in finished.stderr


def _pickle(directory: Path) -> None:
    (directory / "adapter_model.bin").write_bytes(b"")


def _link(directory: Path) -> None:
    (directory / "README.md").symlink_to("/etc/hostname")


def _missing_weights(directory: Path) -> None:
    (directory / "adapter_model.safetensors").unlink()


def _file_instead(directory: Path) -> None:
    shutil.rmtree(directory)
    directory.write_text("")


@pytest.mark.parametrize("spoil", [_pickle, _link, _missing_weights, _file_instead])
def test_a_directory_is_checked_before_it_is_sent_as_the_store_checks_it(
    bench: Bench, run: Run, spoil: Callable[[Path], None]
) -> None:
    source = bench.adapter_directory(1)
    spoil(source)
    stored = run("adapters", "push", "support", source, "--store", bench.store.root)
    sent = run("adapters", "push", "support", source, "--url", "http://127.0.0.1:1")
    assert (stored.status, sent.status) == (1, 1)
    assert sent.stderr == stored.stderr


async def test_a_push_says_whether_the_alias_moved_and_from_where(bench: Bench, where: list[str], run: Run) -> None:
    async def push(seed: int) -> Finished:
        source = bench.adapter_directory(seed)
        return await asyncio.to_thread(run, "adapters", "push", "french", source, *where)

    def latest() -> str:
        return bench.store.get(parse_adapter_name("french")).aliases["latest"]

    assert (await push(1)).stdout == f"french@latest is now {(first := latest())}\n"
    assert (await push(1)).stdout == f"french@latest is already {first}\n"
    assert (await push(2)).stdout == f"french@latest is now {latest()}, before {first}\n"


@pytest.mark.parametrize(("columns", "terminal", "whole"), [(100, True, False), (160, True, True), (80, False, True)])
def test_a_narrow_terminal_gets_short_digests_and_dates(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch, columns: int, terminal: bool, whole: bool
) -> None:
    bench.publish("support")
    version = bench.store.get(parse_adapter_name("support")).versions[0]
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    listed = run("adapters", "list", "--store", bench.store.root).stdout
    assert (version.digest in listed, version.created in listed) == (whole, whole)
    short_date = f"{version.created.partition('.')[0]}Z"
    assert (f"{version.digest[:19]}…" in listed, short_date in listed) == (not whole, not whole)


@pytest.mark.parametrize("name", ["x@prod", "My Adapter", "a/b/c", "x+y", ""])
def test_a_push_says_what_a_name_may_be(bench: Bench, run: Run, name: str) -> None:
    finished = run("adapters", "push", name, bench.adapter_directory(1), "--store", bench.store.root)
    assert finished.status == 1
    assert "NAME or TENANT/NAME of letters, digits, . _ -; choose the alias with --alias" in finished.stderr


@pytest.mark.parametrize(
    ("ref", "says"),
    [
        ("support@sha256:0123456789ab", "all 64 lower-case hex digits"),
        ("support@sha256:0123456789ab", "adapters show support --json"),
        ("My Adapter", "NAME or TENANT/NAME of letters, digits, . _ -"),
        ("My Adapter@sha256:0123456789ab", "NAME or TENANT/NAME of letters, digits, . _ -"),
        ("support@a b", "@ALIAS or @sha256:DIGEST"),
    ],
)
def test_a_promotion_says_how_a_version_is_written(bench: Bench, run: Run, ref: str, says: str) -> None:
    bench.publish("support")
    finished = run("adapters", "promote", ref, "--store", bench.store.root)
    assert finished.status == 1
    assert says in finished.stderr


def test_the_help_says_where_the_key_comes_from(run: Run) -> None:
    helped = " ".join(run("adapters", "push", "--help").stdout.split())
    assert "set SWITCHYARD_API_KEY to the server's key" in helped


async def test_an_adapter_on_a_hub_is_pushed_by_its_commit(
    bench: Bench, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured_hub(monkeypatch) as hub:
        commit = hub.add("team/support-lora", bench.adapter_directory(1), "v1")
        local = run("adapters", "push", "support", "hub:team/support-lora@v1", "--store", bench.store.root, "--json")
        assert local.json["notes"]["source"] == f"hub:team/support-lora@{commit}"
        async with live(bench, bench.engine(saying([])), allow_hub_sources=True) as url:
            push = ("adapters", "push", "support", "hub:team/support-lora", "--url", url, "--json")
            remote = await asyncio.to_thread(run, *push)
        assert (remote.json["digest"], remote.json["previous"]) == (local.json["digest"], local.json["digest"])


def test_a_hub_that_is_not_there_is_one_line(bench: Bench, run: Run) -> None:
    finished = run("adapters", "push", "support", "hub:team/support-lora", "--store", bench.store.root)
    assert (finished.status, finished.stdout) == (1, "")
    assert finished.stderr.startswith("error: cannot fetch hub:team/support-lora: HF_HUB_OFFLINE is set")
