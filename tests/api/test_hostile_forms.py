"""Whatever stands in a field that binds the answer becomes a grammar, or is refused by that field."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.api.constraints.constraining import constraint_of
from server.api.protocol.chat_request import ChatRequest
from server.api.text.tokenization import Tokenization
from server.errors import InvalidRequest
from tests.api.written_at_random import RandomWriter

KEYWORDS = [
    "type", "properties", "required", "items", "prefixItems", "enum", "const", "anyOf", "allOf", "oneOf", "$ref",
    "$defs", "pattern", "format", "minLength", "maxLength", "minimum", "maximum", "multipleOf", "minItems", "maxItems",
    "additionalProperties", "patternProperties", "x-guidance", "not", "title",
]  # fmt: skip
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(
        ["object", "array", "string", "integer", "#", "#/$defs/a", "^a+$", "(", "date-time", "[", "\ud800"]
    )
    | st.text(max_size=5)
)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*KEYWORDS, "a"]), inner, max_size=4),
    max_leaves=12,
)
schemas = st.dictionaries(st.sampled_from(KEYWORDS), values, max_size=5)
marks = st.lists(
    st.sampled_from(
        ["start:", "root ::= ", "a", ": ", '"x"', "/a/", "|", "(", ")", "*", "{2,", "}", "\n", "%", "%json ", "{",
         "[lazy]", "<[5]>", "<x>", "@a", "\\", '"', "é", "\0", "&", "~", "#", " ", "A: /b/", "%llguidance {}",
         "%import common.INT"]
    ),
    max_size=12,
).map("".join)  # fmt: skip
fields = st.one_of(
    st.fixed_dictionaries({"guided_json": schemas}),
    st.fixed_dictionaries({"guided_regex": marks | st.text(max_size=10)}),
    st.fixed_dictionaries({"guided_grammar": marks | st.text(max_size=10)}),
    st.fixed_dictionaries({"guided_choice": st.lists(st.text(max_size=4), min_size=1, max_size=3)}),
    st.builds(
        lambda schema, strict: {
            "tools": [{"type": "function", "function": {"name": "f", "parameters": schema, "strict": strict}}]
        },
        schemas,
        st.booleans(),
    ),
)


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> RandomWriter:
    return RandomWriter(tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture(scope="module")
def tokenization(base_directory: Path) -> Iterator[Tokenization]:
    tokenization = Tokenization.load(base_directory)
    yield tokenization
    tokenization.threads.close()


@settings(max_examples=150, deadline=None)
@given(asked=fields)
def test_it_is_a_grammar_or_it_is_refused(
    writer: RandomWriter, tokenization: Tokenization, asked: dict[str, Any]
) -> None:
    try:
        request = ChatRequest.parse({"model": "base", "messages": [{"role": "user", "content": "a"}], **asked})
        bound = asyncio.run(constraint_of(request, tokenization, tokenization))
    except InvalidRequest:
        return
    assert bound.grammar is not None
    try:
        constraint = writer.compiler.compile(bound.grammar)
    except ValueError:
        return  # what needs a tokenizer to be known is refused by the engine
    constraint.mask()
