import json
import random
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from tokenizers import AddedToken, Tokenizer, models

from server.api.constraints.content import ToolCallPiece
from server.api.constraints.grammar import Part, json_part, serialised
from server.api.constraints.tool_call_reader import ToolCallReader
from server.api.constraints.tool_format import (
    HERMES,
    LLAMA,
    MISTRAL,
    SPACED_MISTRAL,
    ToolDialect,
    ToolFormat,
    format_of,
)
from server.api.constraints.tool_grammar import call_parts
from tests.api.written_at_random import RandomWriter

FORMATS = [HERMES, LLAMA, MISTRAL, SPACED_MISTRAL]
SCHEMAS: dict[str, dict[str, Any]] = {
    "weather": {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/city"}, "days": {"type": "integer", "minimum": 1, "maximum": 9}},
        "required": ["city"],
        "additionalProperties": False,
        "$defs": {"city": {"enum": ["Paris", 'St. "X"']}},
    },
    "now": {"type": "object", "properties": {}, "additionalProperties": False},
}
FUNCTIONS = [(name, json_part(schema)) for name, schema in SCHEMAS.items()]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> RandomWriter:
    return RandomWriter(tmp_path_factory.mktemp("tokenizer"))


def grammar(writer: RandomWriter, tool_format: ToolFormat, *, answer: Part | None = None, **options: bool) -> str:
    dialect = ToolDialect(tool_format, writer.tokenizer.backend_tokenizer)
    asked = {"required": False, "parallel": True} | options
    return serialised(call_parts(dialect, FUNCTIONS, answer=answer, **asked))


def read(tool_format: ToolFormat, text: str) -> tuple[str, list[tuple[str, Any]]]:
    """The content and the calls, whose arguments are checked."""
    reader = ToolCallReader(tool_format, SCHEMAS)
    deltas = [*reader.push(text), *reader.finish()]
    content = "".join(delta for delta in deltas if isinstance(delta, str))
    calls = list[tuple[str, str]]()
    for delta in deltas:
        if isinstance(delta, ToolCallPiece):
            if delta.name is not None:
                calls.append((delta.name, ""))
            calls[-1] = (calls[-1][0], calls[-1][1] + delta.arguments)
    read_calls = [(name, json.loads(arguments)) for name, arguments in calls]
    for name, arguments in read_calls:
        jsonschema_rs.Draft202012Validator(SCHEMAS[name]).validate(arguments)
    return content, read_calls


@pytest.mark.parametrize("tool_format", FORMATS)
@pytest.mark.parametrize("parallel", [True, False])
def test_what_has_to_be_a_call_is_one_that_the_reader_reads(
    writer: RandomWriter, tool_format: ToolFormat, parallel: bool
) -> None:
    required = grammar(writer, tool_format, required=True, parallel=parallel)
    counts = set()
    for seed in range(20):
        content, calls = read(tool_format, writer.write(required, random.Random(seed)))
        assert content == ""
        counts.add(len(calls))
    assert 0 not in counts
    assert (counts == {1}) == (not parallel)


@pytest.mark.parametrize("tool_format", [HERMES, MISTRAL])
def test_free_text_may_lead_to_a_call_which_is_then_bound(writer: RandomWriter, tool_format: ToolFormat) -> None:
    free = grammar(writer, tool_format)
    for seed in range(10):
        start = f"Let me <tool see.\n{tool_format.trigger}"
        content, calls = read(tool_format, writer.write(free, random.Random(seed), start=start))
        assert content == "Let me <tool see."
        assert calls


def test_without_a_trigger_an_answer_that_begins_like_a_call_is_bound(writer: RandomWriter) -> None:
    content, calls = read(LLAMA, writer.write(grammar(writer, LLAMA), random.Random(0), start="{"))
    assert (content, bool(calls)) == ("", True)


@pytest.mark.parametrize("tool_format", FORMATS)
def test_free_text_is_free(writer: RandomWriter, tool_format: ToolFormat) -> None:
    text = 'Any text: {"name": 7}, <tool_call, [TOOL, \n "é" </tool_call>'
    free = writer.compiler.compile(grammar(writer, tool_format))
    for token in writer.tokenizer.encode(text):
        assert free.mask()[token]
        free.advance(token)
    assert free.mask()[257]


@pytest.mark.parametrize("tool_format", FORMATS)
def test_an_answer_that_is_no_call_has_the_form_asked_for(writer: RandomWriter, tool_format: ToolFormat) -> None:
    bound = grammar(writer, tool_format, answer=json_part({"const": ["an", "answer"]}))
    seen = set()
    for seed in range(30):
        content, calls = read(tool_format, writer.write(bound, random.Random(seed)))
        assert bool(content) != bool(calls)
        if content:
            assert json.loads(content) == ["an", "answer"]
        seen.add(bool(calls))
    assert seen == {True, False}


def test_a_trigger_that_is_a_special_token_is_that_token(tmp_path: Path) -> None:
    writer = RandomWriter(tmp_path, special=MISTRAL.trigger)
    dialect = ToolDialect(MISTRAL, writer.tokenizer.backend_tokenizer)
    assert dialect.trigger_token == 259
    required = serialised(call_parts(dialect, FUNCTIONS, required=True, parallel=True))
    assert writer.compiler.compile(required).mask().nonzero().flatten().tolist() == [259]
    text = writer.write(required, random.Random(0))
    shown, unseen = text, text.removeprefix(MISTRAL.trigger)
    assert shown != unseen
    assert read(MISTRAL, shown)[1]
    reader = ToolCallReader(MISTRAL, SCHEMAS, trigger_shown=False)
    assert not any(isinstance(delta, str) for delta in [*reader.push(unseen), *reader.finish()])


@pytest.mark.parametrize(("special", "token_id"), [(False, None), (True, 0)])
def test_a_trigger_that_is_one_token_is_text_unless_the_token_is_special(special: bool, token_id: int | None) -> None:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.add_tokens([AddedToken("<tool_call>", special=special)])
    assert ToolDialect(HERMES, tokenizer).trigger_token == token_id


@pytest.mark.parametrize(
    ("template", "tool_format"),
    [
        (None, HERMES),
        ("{{ messages }}", HERMES),
        ("{{ '<tool_call>' }}", HERMES),
        ("{{ '[TOOL_CALLS][' }}", MISTRAL),
        ("{{ '[TOOL_CALLS] [' }}", SPACED_MISTRAL),
        ("Environment: ipython {{ '\"parameters\": ' }}", LLAMA),
        ('the "parameters" of a plain template', HERMES),
    ],
)
def test_a_template_tells_its_format(template: str | None, tool_format: ToolFormat) -> None:
    assert format_of(template) == tool_format
