import json
from collections.abc import Iterable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.api.constraints.content import ToolCallPiece
from server.api.constraints.tool_call_reader import ToolCallReader
from server.api.constraints.tool_format import HERMES, LLAMA, MISTRAL, SPACED_MISTRAL, ToolFormat

FORMATS = [HERMES, LLAMA, MISTRAL, SPACED_MISTRAL]
NAMES = ["weather", "weather_at", "a"]
Call = tuple[str, str]


def read(reader: ToolCallReader, pieces: Iterable[str]) -> tuple[str, list[Call], str]:
    """The content, the calls, and the finish reason of an answer that ended by itself."""
    content, calls = "", list[Call]()
    ids = set()
    for delta in [*(delta for piece in pieces if piece for delta in reader.push(piece)), *reader.finish()]:
        if isinstance(delta, str):
            assert delta, "empty content is not worth a delta"
            content += delta
            continue
        if delta.index == len(calls):
            assert delta.name is not None
            assert delta.call_id is not None
            ids.add(delta.call_id)
            calls.append((delta.name, delta.arguments))
        else:
            assert delta.index == len(calls) - 1
            assert (delta.name, delta.call_id) == (None, None)
            calls[-1] = (calls[-1][0], calls[-1][1] + delta.arguments)
    assert len(ids) == len(calls)
    return content, calls, reader.finish_reason("stop")


def cut(text: str, places: Iterable[int]) -> list[str]:
    """The text in pieces, cut at places modulo its length."""
    ends = sorted({place % (len(text) + 1) for place in places})
    return [text[begin:end] for begin, end in zip([0, *ends], [*ends, len(text)], strict=True)]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
arguments = st.builds(
    lambda value, indent, ascii_only: json.dumps(value, indent=indent, ensure_ascii=ascii_only),
    st.dictionaries(st.text(max_size=5) | st.just('"}\\'), json_values, max_size=3),
    st.sampled_from([None, 1]),
    st.booleans(),
)
call_lists = st.lists(st.tuples(st.sampled_from(NAMES), arguments), min_size=1, max_size=3)
places = st.lists(st.integers(0, 10_000), max_size=30)
fragments = st.lists(
    st.sampled_from(
        [
            "<tool_call>", "<tool", "</tool_call>", "[TOOL_CALLS]", "[", " ", "\n", "}", "}; ", "}, ", "}]", ";", "é",
            '{"name": "weather", "arguments": ', '{"name": "a", "parameters": ', '{"x": "}"}', "{}", '"', "\\", "words",
        ]
    ),
    max_size=14,
)  # fmt: skip


@pytest.mark.parametrize("tool_format", FORMATS)
@settings(deadline=None)
@given(calls=call_lists, places=places)
def test_calls_are_read_as_they_were_written_whatever_the_pieces(
    tool_format: ToolFormat, calls: list[Call], places: list[int]
) -> None:
    text = tool_format.written(calls)
    assert read(ToolCallReader(tool_format, NAMES), cut(text, places)) == ("", calls, "tool_calls")


@pytest.mark.parametrize("tool_format", FORMATS)
@settings(deadline=None)
@given(parts=fragments, places=places)
def test_any_text_is_read_the_same_whatever_the_pieces(
    tool_format: ToolFormat, parts: list[str], places: list[int]
) -> None:
    text = "".join(parts)
    whole = read(ToolCallReader(tool_format, NAMES), [text])
    assert read(ToolCallReader(tool_format, NAMES), cut(text, places)) == whole
    assert read(ToolCallReader(tool_format, NAMES), list(text)) == whole


@pytest.mark.parametrize("tool_format", FORMATS)
@settings(deadline=None)
@given(text=st.text(alphabet='a{<[ \n"}', max_size=30), places=places)
def test_text_without_a_call_is_content_to_the_letter(tool_format: ToolFormat, text: str, places: list[int]) -> None:
    assert read(ToolCallReader(tool_format, NAMES), cut(text, places)) == (text, [], "stop")


@pytest.mark.parametrize("tool_format", [HERMES, MISTRAL, SPACED_MISTRAL])
def test_a_call_that_is_cut_before_it_names_a_function_shows_no_marker(tool_format: ToolFormat) -> None:
    whole = tool_format.written([("weather", "{}")])
    for size in range(len(tool_format.trigger), whole.index("weather")):
        reader = ToolCallReader(tool_format, NAMES)
        shown = [*reader.push("Let me see. " + whole[:size]), *reader.finish()]
        assert "".join(delta for delta in shown if isinstance(delta, str)) == "Let me see."


def test_content_stands_before_a_call_without_the_white_space_between() -> None:
    text = f"Let me look. \n\n{HERMES.written([('a', '{}')])}\n"
    assert read(ToolCallReader(HERMES, NAMES), [text]) == ("Let me look.", [("a", "{}")], "tool_calls")


def test_arguments_are_sent_on_as_they_come() -> None:
    reader = ToolCallReader(HERMES, NAMES)
    pieces = ['<tool_call>\n{"name": "a", "arguments": ', '{"city": "Pa', 'ris"', "}", "}\n</tool_call>"]
    arguments = [
        [delta.arguments for delta in reader.push(piece) if isinstance(delta, ToolCallPiece)] for piece in pieces
    ]
    assert arguments == [[""], ['{"city": "Pa'], ['ris"'], ["}"], []]


def test_content_is_sent_on_as_it_comes_but_for_what_may_begin_a_call() -> None:
    reader = ToolCallReader(HERMES, NAMES)
    assert [list(reader.push(piece)) for piece in ["Hello ", "you <", "tool", " box>"]] == [
        ["Hello"],
        [" you"],
        [],
        [" <tool box>"],
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('<tool_call>\n{"name": "unknown", "arguments": {}}\n</tool_call>', []),
        ('<tool_call>{"name": "a", "arguments": {}}</tool_call>', []),
        ("the tag <tool_call> begins a call", []),
        ('<tool_call> <tool_call>\n{"name": "a", "arguments": {}}\n</tool_call>', [("a", "{}")]),
    ],
)
def test_what_is_not_exactly_a_call_is_content(text: str, expected: list[Call]) -> None:
    content, calls, _ = read(ToolCallReader(HERMES, NAMES), [text])
    assert calls == expected
    assert content == (text if not expected else "<tool_call>")


def test_without_a_trigger_only_the_beginning_of_an_answer_is_a_call() -> None:
    call = LLAMA.written([("a", "{}")])
    assert read(ToolCallReader(LLAMA, NAMES), [call]) == ("", [("a", "{}")], "tool_calls")
    assert read(ToolCallReader(LLAMA, NAMES), [f"I call {call}"]) == (f"I call {call}", [], "stop")


def test_a_trigger_that_is_not_shown_is_not_waited_for() -> None:
    text = MISTRAL.written([("a", "{}"), ("weather", '{"x": 1}')]).removeprefix(MISTRAL.trigger)
    reader = ToolCallReader(MISTRAL, NAMES, trigger_shown=False)
    assert read(reader, list(text)) == ("", [("a", "{}"), ("weather", '{"x": 1}')], "tool_calls")


def finish_reasons(text: str) -> Sequence[str]:
    reader = ToolCallReader(HERMES, NAMES)
    reader.push(text)
    reader.finish()
    return [reader.finish_reason(reason) for reason in ("stop", "length", "cancelled")]


def test_the_finish_reason_tells_of_calls_that_are_whole() -> None:
    call = HERMES.written([("a", '{"x": 1}')])
    assert finish_reasons("no call") == ["stop", "length", "cancelled"]
    assert finish_reasons(call) == ["tool_calls", "length", "cancelled"]
    assert finish_reasons(call[: call.index("1}")]) == ["stop", "length", "cancelled"]
