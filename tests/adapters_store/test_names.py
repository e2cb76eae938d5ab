"""Model names: what parses, what it means, and what is refused."""

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters_store.errors import InvalidName
from adapters_store.names import (
    MAX_MODEL_NAME_CHARS,
    AdapterName,
    AdapterRef,
    ModelName,
    TaskName,
    parse_adapter_name,
    parse_adapter_ref,
    parse_model_name,
    parse_requested_name,
)

HEX = "0123456789abcdef" * 4
SUPPORT = AdapterName(None, "support")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("support", ModelName(None, (AdapterRef(SUPPORT),))),
        ("acme/support", ModelName(None, (AdapterRef(AdapterName("acme", "support")),))),
        ("support@prod", ModelName(None, (AdapterRef(SUPPORT, alias="prod"),))),
        (f"support@sha256:{HEX}", ModelName(None, (AdapterRef(SUPPORT, digest=f"sha256:{HEX}"),))),
        ("base:support", ModelName("base", (AdapterRef(SUPPORT),))),
        ("org/model-7b.v2:support@prod", ModelName("org/model-7b.v2", (AdapterRef(SUPPORT, alias="prod"),))),
        (f"base:support@sha256:{HEX}", ModelName("base", (AdapterRef(SUPPORT, digest=f"sha256:{HEX}"),))),
        ("/models/local:support", ModelName("/models/local", (AdapterRef(SUPPORT),))),
        (
            f"acme/support@prod+tone@sha256:{HEX}+fr",
            ModelName(
                None,
                (
                    AdapterRef(AdapterName("acme", "support"), alias="prod"),
                    AdapterRef(AdapterName(None, "tone"), digest=f"sha256:{HEX}"),
                    AdapterRef(AdapterName(None, "fr")),
                ),
            ),
        ),
    ],
)
def test_a_name_parses_and_prints_back(text: str, expected: ModelName) -> None:
    assert parse_model_name(text) == expected
    assert str(expected) == text


def test_the_bare_model_is_the_name_base() -> None:
    assert parse_model_name("base").parts[0].is_base
    assert parse_model_name("base:base").parts[0].is_base
    assert not parse_model_name("acme/base").parts[0].is_base
    assert not parse_model_name("base:support").parts[0].is_base


def test_without_alias_or_digest_the_latest_is_meant() -> None:
    assert parse_adapter_ref("support").alias is None
    assert parse_adapter_ref("support").effective_alias == "latest"
    assert parse_adapter_ref("support@prod").effective_alias == "prod"
    assert parse_adapter_ref(f"support@sha256:{HEX}").effective_alias is None


@pytest.mark.parametrize("text", ["base", "task", "acme/base", "acme/task"])
def test_reserved_names_are_known_as_such(text: str) -> None:
    assert parse_adapter_name(text).is_reserved


@pytest.mark.parametrize(
    ("text", "offender"),
    [
        ("", "''"),
        ("..", "'..'"),
        (".hidden", "'.hidden'"),
        ("-rf", "'-rf'"),
        ("../../etc/passwd", "'..'"),
        ("/etc/passwd", "''"),
        ("a/b/c", "'b/c'"),
        ("a//b", "'/b'"),
        ("a/", "''"),
        ("a\\b", "'a\\\\b'"),
        ("a b", "'a b'"),
        ("a\n", "'a\\n'"),
        ("a\x00", "'a\\x00'"),
        ("naïve", "'naïve'"),
        ("\ud800", "'\\ud800'"),
        ("٣", "'٣'"),
        ("a@", "''"),
        ("a@b@c", "'b@c'"),
        ("a@sha256:", "'sha256:'"),
        (f"a@sha256:{HEX[:-1]}", "'sha256:"),
        (f"a@sha256:{HEX.upper()}", "'sha256:"),
        (f"a@sha256:{HEX}\n", "'sha256:"),
        (f"a@prod@sha256:{HEX}", "prod@sha256"),
        ("a@md5:00", "'a@md5'"),
        ("a+", "''"),
        ("+a", "''"),
        ("a++b", "''"),
        ("base:", "''"),
        (":a", "''"),
        ("org name:a", "'org name'"),
        ("base:a:b", "'a:b'"),
        ("base@prod", "'base'"),
        (f"base@sha256:{HEX}", "'base'"),
        ("a" * 97, "aaa"),
    ],
)
def test_what_the_grammar_lacks_is_refused_with_the_part_and_the_grammar(text: str, offender: str) -> None:
    with pytest.raises(InvalidName, match=re.escape(offender)) as refusal:
        parse_model_name(text)
    assert refusal.value.message.endswith("a model name is [base:][tenant/]name[@alias|@sha256:<64 hex digits>]")


def test_a_task_route_is_refused_as_such() -> None:
    with pytest.raises(InvalidName, match="names a task route"):
        parse_model_name("task:summarise")


def test_lengths_are_bounded_and_messages_with_them() -> None:
    assert parse_model_name("a" * 96).parts[0].name.name == "a" * 96
    longest = "+".join(["a" * 84] * 6)
    assert len(longest) < MAX_MODEL_NAME_CHARS
    assert len(parse_model_name(longest).parts) == 6
    with pytest.raises(InvalidName, match="longer than 512") as refusal:
        parse_model_name("a+" * 100_000)
    assert len(refusal.value.message) < 300


@pytest.mark.parametrize("part", ["", "..", "a/b", "a@b", "a:b", "a+b", "a b"])
def test_a_value_that_breaks_the_grammar_cannot_be_made(part: str) -> None:
    for make in (
        lambda: AdapterName(part, "a"),
        lambda: AdapterName(None, part),
        lambda: AdapterRef(SUPPORT, alias=part),
        lambda: AdapterRef(SUPPORT, digest=part),
    ):
        with pytest.raises(InvalidName):
            make()
    with pytest.raises(InvalidName):
        AdapterRef(SUPPORT, alias="prod", digest=f"sha256:{HEX}")
    with pytest.raises(InvalidName):
        ModelName(None, ())


slugs = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True)
names = st.builds(AdapterName, st.none() | slugs, slugs.filter(lambda slug: slug != "base"))
digests = st.from_regex(r"sha256:[0-9a-f]{64}", fullmatch=True)
refs = st.builds(AdapterRef, names, alias=slugs) | st.builds(AdapterRef, names, digest=digests)
refs = refs | st.builds(AdapterRef, names) | st.just(AdapterRef(AdapterName(None, "base")))
bases = st.none() | st.from_regex(r"[A-Za-z0-9./_-]{1,30}", fullmatch=True).filter(lambda base: base != "task")


@given(bases, st.lists(refs, min_size=1, max_size=3))
def test_every_value_round_trips(base: str | None, parts: list[AdapterRef]) -> None:
    model = ModelName(base, tuple(parts))
    assert parse_model_name(str(model)) == model


@given(st.text() | st.text(alphabet="abAB0._-/@:+ \n\ud800", max_size=40))
@example("a@sha256:b:c")
@example("@sha256:a")
def test_any_text_parses_or_is_refused_and_never_holds_a_path(text: str) -> None:
    try:
        model = parse_model_name(text)
    except InvalidName:
        return
    assert str(model) == text
    for part in model.parts:
        for slug in (part.name.tenant or "a", part.name.name, part.alias or "a"):
            assert "/" not in slug
            assert slug[0] not in ".-"


def test_a_request_may_name_a_task_or_a_model() -> None:
    assert parse_requested_name("task:summarise") == TaskName("summarise")
    assert str(TaskName("summarise")) == "task:summarise"
    assert parse_requested_name("acme/support@prod") == parse_model_name("acme/support@prod")


@pytest.mark.parametrize("text", ["task:", "task:a/b", "task:../x", "task:a@prod", "task:a b", "task:" + "x" * 97])
def test_a_task_is_one_slug(text: str) -> None:
    with pytest.raises(InvalidName, match="task"):
        parse_requested_name(text)


@given(st.text(max_size=40))
def test_whatever_a_request_names_is_parsed_or_refused(text: str) -> None:
    try:
        parsed = parse_requested_name(text)
    except InvalidName:
        return
    assert parse_requested_name(str(parsed)) == parsed
