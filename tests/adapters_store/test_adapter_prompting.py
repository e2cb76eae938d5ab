"""`prompting.json`: one text for every value, and nothing in it that could not be served."""

import contextlib
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters_store.adapter_prompting import (
    SAMPLING_BOUNDS,
    AdapterPrompting,
    AddedToken,
    decode_prompting,
    encode_prompting,
    summarise_prompting,
)
from adapters_store.errors import InvalidAdapter

texts = st.text(min_size=1, max_size=8)
samplings = st.fixed_dictionaries(
    {},
    optional={
        field: st.integers(0, 1000).map(float) if field == "top_k" else st.floats(low, high)
        for field, (low, high) in SAMPLING_BOUNDS.items()
    },
)
promptings = st.builds(
    AdapterPrompting,
    chat_template=st.none() | texts,
    added_tokens=st.lists(
        st.builds(AddedToken, id=st.integers(0, 99), content=texts, special=st.booleans()),
        max_size=4,
        unique_by=(lambda token: token.id, lambda token: token.content),
    ).map(tuple),
    special_tokens=st.dictionaries(st.sampled_from(["bos_token", "eos_token"]), texts),
    stop_token_ids=st.sets(st.integers(0, 99), max_size=4).map(tuple),
    stop_strings=st.lists(texts, max_size=3).map(tuple),
    sampling=samplings,
)


@given(promptings)
def test_what_was_written_is_read_and_written_the_same(prompting: AdapterPrompting) -> None:
    content = encode_prompting(prompting)
    assert encode_prompting(decode_prompting(content)) == content
    summary = summarise_prompting(prompting, content)
    assert summary.sha256 == hashlib.sha256(content).hexdigest()
    assert (summary.chat_template, summary.added_tokens) == (
        prompting.chat_template is not None,
        len(prompting.added_tokens),
    )


def test_the_order_of_tokens_and_fields_does_not_show() -> None:
    one, two = AddedToken(id=1, content="a"), AddedToken(id=2, content="b")
    first = AdapterPrompting(added_tokens=(one, two), sampling={"top_p": 0.5, "min_p": 0.5}, stop_token_ids=(1, 2))
    second = AdapterPrompting(added_tokens=(two, one), sampling={"min_p": 0.5, "top_p": 0.5}, stop_token_ids=(2, 1))
    assert encode_prompting(first) == encode_prompting(second)


def test_one_that_says_nothing_is_false() -> None:
    assert not AdapterPrompting()
    assert AdapterPrompting(stop_strings=("x",))


@given(st.binary(max_size=64) | st.text(max_size=64).map(str.encode))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    with contextlib.suppress(InvalidAdapter):
        decode_prompting(content)


@pytest.mark.parametrize(
    "content",
    [
        b'{"stops":[]}',
        b'{"sampling":{"heat":1}}',
        b'{"sampling":{"temperature":3}}',
        b'{"sampling":{"top_k":1.5}}',
        b'{"special_tokens":{"role":"x"}}',
        b'{"special_tokens":{"eos_token":""}}',
        b'{"added_tokens":[{"id":1,"content":"a"},{"id":1,"content":"b"}]}',
        b'{"added_tokens":[{"id":1,"content":"a"},{"id":2,"content":"a"}]}',
        b'{"stop_token_ids":[-1]}',
        b"[" * 100_000,
    ],
)
def test_what_could_not_be_served_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidAdapter):
        decode_prompting(content)
