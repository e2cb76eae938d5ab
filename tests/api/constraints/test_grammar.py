import json
import random
from typing import Any

import pytest

from server.api.constraints.grammar import (
    MAX_PART_BYTES,
    Part,
    check_part,
    choice_part,
    json_part,
    object_part,
    regex_part,
    rules_part,
    serialised,
)
from server.api.text.text_threads import TextThreads
from server.errors import InvalidRequest
from tests.api.written_at_random import RandomWriter

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> RandomWriter:
    return RandomWriter(tmp_path_factory.mktemp("tokenizer"))


def written(writer: RandomWriter, part: Part) -> set[str]:
    return {writer.write(serialised([part]), random.Random(seed)) for seed in range(30)}


async def check(part: Part, param: str) -> None:
    threads = TextThreads()
    try:
        await check_part(part, param, threads)
    finally:
        threads.close()


CHOICES = ["red", "grün", 'a "b"', "two\nlines", "back\\slash", "/slash/", "", "\x07"]


async def test_a_choice_is_written_to_the_letter(writer: RandomWriter) -> None:
    await check(choice_part(CHOICES), "choice")
    assert written(writer, choice_part(CHOICES)) <= set(CHOICES)
    for choice in CHOICES:
        assert written(writer, choice_part([choice])) == {choice}


def test_a_pattern_matches_from_end_to_end(writer: RandomWriter) -> None:
    assert written(writer, regex_part("a|/b/")) == {"a", "/b/"}


@pytest.mark.parametrize(
    "rules", ['start: one | "y"\none: "x"', 'root ::= one | "y"\none ::= "x"'], ids=["lark", "gbnf"]
)
def test_rules_are_read_in_both_notations(writer: RandomWriter, rules: str) -> None:
    assert written(writer, rules_part(rules)) == {"x", "y"}


def test_white_space_in_json_has_an_end(writer: RandomWriter) -> None:
    texts = written(writer, json_part({"type": "array", "items": {"const": 1}, "minItems": 2, "maxItems": 2}))
    assert {json.dumps(json.loads(text)) for text in texts} == {"[1, 1]"}
    assert len(texts) > 5
    assert max(map(len, texts)) < 5 + 4 * 26


def test_any_object_is_an_object(writer: RandomWriter) -> None:
    text = writer.write(serialised([object_part()]), random.Random(1), limit=4000, prefer="}")
    assert isinstance(json.loads(text), dict)


@pytest.mark.parametrize(
    ("part", "reason"),
    [
        (json_part({"type": "strin"}), "Invalid type: strin"),
        (json_part({"type": "object", "not": {}}), 'Unimplemented keys: \\["not"\\]'),
        (json_part({"$ref": "http://localhost/x"}), "not present in a registry"),
        (json_part({"enum": []}), "Unsatisfiable"),
        (json_part({"type": "string", "pattern": "(?=x)"}), "look-ahead"),
        (json_part({"x-guidance": 7}), "cannot be used"),
        (regex_part("("), "unclosed group"),
        (rules_part("start: missing"), "missing"),
        (json_part({"const": "\ud800"}), "cannot be used"),
        (json_part({"enum": ["x" * MAX_PART_BYTES]}), "at most 65536"),
    ],
)
async def test_a_part_that_cannot_be_used_is_refused_with_the_reason(part: Part, reason: str) -> None:
    with pytest.raises(InvalidRequest, match=reason) as caught:
        await check(part, "the.field")
    assert caught.value.param == "the.field"
    assert caught.value.message.startswith("the.field")
    assert len(caught.value.message) < 800


async def test_a_schema_nested_without_end_is_refused() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"items": schema}
    with pytest.raises(InvalidRequest, match="nested"):
        await check(json_part(schema), "schema")
    shallow: dict[str, Any] = {}
    for _ in range(200):
        shallow = {"items": shallow}
    with pytest.raises(InvalidRequest, match="recursion"):
        await check(json_part(shallow), "schema")


async def test_lenient_passes_over_keywords_that_are_not_known() -> None:
    schema = {"type": "object", "not": {"required": ["a"]}}
    await check(json_part(schema, lenient=True), "schema")
