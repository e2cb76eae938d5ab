"""Training files: what is read, what is refused, and that every refusal names its line and a fix."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.errors import InvalidTrainingFile
from server.training.data.reading import Limits, check_examples, read_examples
from server.training.example import ChatExample, CompletionExample, Message, PreferenceExample

USER: dict[str, Any] = {"role": "user", "content": "Hello"}
ANSWER: dict[str, Any] = {"role": "assistant", "content": "Good day."}
CHAT: dict[str, Any] = {"messages": [USER, ANSWER]}
COMPLETION: dict[str, Any] = {"prompt": "Roses are", "completion": " red"}
PREFERENCE: dict[str, Any] = {
    "input": {"messages": [USER]},
    "preferred_output": [ANSWER],
    "non_preferred_output": [{"role": "assistant", "content": "What?"}],
}
TOOL: dict[str, Any] = {"type": "function", "function": {"name": "clock", "parameters": {"type": "object"}}}


def written(path: Path, *lines: object) -> Path:
    file = path / "data.jsonl"
    file.write_bytes(b"".join((x if isinstance(x, bytes) else json.dumps(x).encode()) + b"\n" for x in lines))
    return file


def refusal(file: Path, limits: Limits | None = None) -> InvalidTrainingFile:
    with pytest.raises(InvalidTrainingFile) as caught:
        read_examples(file, limits=limits or Limits())
    with pytest.raises(InvalidTrainingFile) as checked:
        check_examples(file, limits=limits or Limits())
    assert checked.value.problems == caught.value.problems
    return caught.value


def test_reading_loads_no_model_code() -> None:
    program = "import sys, server.training.data.reading; print({'torch', 'transformers'} & set(sys.modules))"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert finished.stdout.strip() == "set()"


def test_the_three_forms_are_read(tmp_path: Path) -> None:
    chat = read_examples(written(tmp_path, CHAT, CHAT))
    assert (chat.kind, chat.count) == ("chat", 2)
    messages = (Message(role="user", content="Hello"), Message(role="assistant", content="Good day."))
    assert chat.examples[0] == ChatExample(messages=messages)
    completion = read_examples(written(tmp_path, COMPLETION))
    assert completion.examples == (CompletionExample(prompt="Roses are", completion=" red"),)
    (preference,) = read_examples(written(tmp_path, PREFERENCE)).examples
    assert isinstance(preference, PreferenceExample)
    assert (preference.messages, preference.preferred) == (messages[:1], messages[1:])


def test_checking_says_what_reading_would(tmp_path: Path) -> None:
    checked = check_examples(written(tmp_path, *[PREFERENCE] * 3))
    assert (checked.kind, checked.count) == ("preference", 3)


def test_parts_are_joined_and_developer_is_system(tmp_path: Path) -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    chat = {"messages": [{"role": "developer", "content": parts}, USER, {**ANSWER, "weight": 1, "refusal": None}]}
    (example,) = read_examples(written(tmp_path, chat)).examples
    assert isinstance(example, ChatExample)
    assert example.messages[0] == Message(role="system", content="a\nb")


def test_tools_and_calls_are_kept_as_templates_take_them(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "clock", "arguments": '{"zone": "UTC"}'}}
    chat = {
        "messages": [
            USER,
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "noon", "tool_call_id": "c1"},
            ANSWER,
        ],
        "tools": [TOOL],
    }
    (example,) = read_examples(written(tmp_path, chat)).examples
    assert isinstance(example, ChatExample)
    assert example.messages[1].tool_calls[0]["function"]["arguments"] == {"zone": "UTC"}
    assert example.tools == (TOOL,)


def test_a_byte_order_mark_crlf_and_blank_lines_are_tolerated(tmp_path: Path) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(b"\xef\xbb\xbf" + json.dumps(CHAT).encode() + b"\r\n\r\n \n" + json.dumps(CHAT).encode())
    assert read_examples(file).count == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (b'{"messages": [', "is no JSON"),
        (b"[]", "JSON array instead of an object"),
        (b"17", "instead of an object"),
        (b"{}", "of no known form"),
        (b'{"messages": [{"role": "user", "content": "\xe9"}]}', "is not UTF-8 (byte 44"),
        (b'{"prompt": "a", "completion": "b\x00"}', "NUL byte"),
        (b'{"prompt": "a", "completion": "b\\u0000"}', "NUL (\\u0000)"),
        (b'{"prompt": "a", "completion": "b\\ud800c"}', "surrogate"),
        (b'{"prompt": "a", "completion": NaN}', "is no JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"messages":' + b"[" * 70 + b"]" * 70 + b"}", "at most 64 levels"),
        ({**CHAT, "temperature": 1}, "unknown field `temperature`; it is not acted on: remove it"),
        ({"messages": [{**USER, "cache": 1}, ANSWER]}, "messages[0]: Object contains unknown field `cache`"),
        ({**CHAT, "parallel_tool_calls": False}, "parallel_tool_calls: only true"),
        ({"messages": []}, "messages: Expected `array` of length >= 1"),
        ({"messages": [USER]}, "no assistant turn"),
        (
            {"messages": [{"role": "bot", "content": "Hi"}]},
            "messages[0].role: Invalid enum value 'bot'; must be one of",
        ),
        ({"messages": [USER, {**ANSWER, "weight": 0}]}, "every assistant turn has weight 0"),
        ({"messages": [USER, {**ANSWER, "weight": 2}]}, "messages[1].weight: Invalid enum value 2; must be 0"),
        ({"messages": [{**USER, "weight": 1}, ANSWER]}, "messages[0].weight: only an assistant turn"),
        ({"messages": [USER, {"role": "assistant", "content": " \n"}]}, "messages[1].content: is empty"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages[1].content: is empty"),
        ({"messages": [{"role": "user", "content": 5}, ANSWER]}, "messages[0].content: Expected"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, "messages[0].content[0].type: Invalid"),
        ({"messages": [{**USER, "tool_call_id": "c"}, ANSWER]}, "messages[0].tool_call_id: only a message"),
        (
            {"messages": [USER, {**ANSWER, "tool_calls": [{"function": {"name": "f", "arguments": "[]"}}]}]},
            "messages[1].tool_calls[0].function.arguments: must be a JSON object",
        ),
        ({**CHAT, "tools": [TOOL, TOOL]}, "tools: holds the function clock twice"),
        ({**CHAT, "tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools[0].function.name"),
        ({"prompt": "a"}, "missing required field `completion`; add it"),
        ({"prompt": "a", "completion": "\t"}, "completion: is empty"),
        ({"prompt": "a", "completion": ["b"]}, "completion: Expected `str`, got `array`"),
        ({**PREFERENCE, "preferred_output": PREFERENCE["non_preferred_output"]}, "the same as non_preferred_output"),
        ({**PREFERENCE, "preferred_output": [USER]}, "preferred_output: must hold one assistant turn"),
        ({**PREFERENCE, "preferred_output": [{**ANSWER, "weight": 0}]}, "weight 0 has no meaning"),
        ({**PREFERENCE, "input": CHAT}, "input.messages: ends with an assistant turn"),
        ({"input": {"messages": [USER]}, "preferred_output": [ANSWER]}, "field `non_preferred_output`; add it"),
    ],
    ids=lambda value: value if isinstance(value, str) else "line",
)
def test_a_line_that_teaches_nothing_is_refused_with_its_number(tmp_path: Path, line: object, words: str) -> None:
    error = refusal(written(tmp_path, CHAT, b"", line))
    assert [problem.line for problem in error.problems] == [3]
    assert words in error.problems[0].message
    assert error.message.startswith("the training file is refused: line 3: ")
    assert (error.status, error.code) == (400, "invalid_training_file")


def test_wrong_json_on_line_713_is_found_there(tmp_path: Path) -> None:
    lines: list[object] = [CHAT] * 1000
    lines[712] = b'{"messages": [}'
    assert [problem.line for problem in refusal(written(tmp_path, *lines)).problems] == [713]


def test_mixed_kinds_are_refused(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, b"{}", CHAT, COMPLETION))
    assert [problem.line for problem in error.problems] == [1, 3]
    assert "is a completion example, and line 2 a chat one" in error.message


def test_all_problems_are_counted_and_the_first_are_listed(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, *[b"{}"] * 1234))
    assert [problem.line for problem in error.problems] == list(range(1, 21))
    assert error.count == 1234
    assert error.message.endswith("; and 1,214 more")


def test_a_line_of_ten_megabytes_is_refused_and_the_next_is_read(tmp_path: Path) -> None:
    huge = json.dumps({"prompt": "a", "completion": "b" * 10_000_000}).encode()
    error = refusal(written(tmp_path, COMPLETION, huge, b"{}"))
    assert [problem.line for problem in error.problems] == [2, 3]
    assert "is longer than 1,048,576 bytes" in error.message


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize(("over", "taken"), [(0, True), (1, False), (2, False), (3, False)])
def test_the_limit_of_a_line_is_exact(tmp_path: Path, end: bytes, over: int, taken: bool) -> None:
    line = json.dumps(COMPLETION).encode()
    file = tmp_path / "data.jsonl"
    file.write_bytes(line + end)
    limits = Limits(line_bytes=len(line) - over)
    if taken:
        assert read_examples(file, limits=limits).count == 1
    else:
        assert "is longer than" in refusal(file, limits).message


def test_a_carriage_return_does_not_hide_what_follows_it(tmp_path: Path) -> None:
    line = json.dumps(COMPLETION).encode()
    file = tmp_path / "data.jsonl"
    file.write_bytes(line + b"\r\rgarbage\n")
    assert "is longer than" in refusal(file, Limits(line_bytes=len(line))).message


def test_too_many_lines_or_bytes_are_refused(tmp_path: Path) -> None:
    file = written(tmp_path, *[CHAT] * 5)
    assert [problem.line for problem in refusal(file, Limits(lines=4)).problems] == [5]
    assert "larger than 100 bytes" in refusal(file, Limits(file_bytes=100)).message
    assert "larger than 100 bytes" in refusal(file, Limits(file_bytes=100, line_bytes=10)).message


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (json.dumps(CHAT).encode("utf-16"), "UTF-16"),
        (json.dumps(CHAT).encode("utf-16-be"), "NUL byte"),
        (b"\x1f\x8b\x08\x00", "gzip"),
        (b"PK\x03\x04", "zip"),
        (b"PAR1", "Parquet"),
        (b"", "the file holds no example"),
        (b"\xef\xbb\xbf\n\n", "the file holds no example"),
    ],
)
def test_other_files_are_named_for_what_they_are(tmp_path: Path, content: bytes, words: str) -> None:
    file = tmp_path / "data.jsonl"
    file.write_bytes(content)
    error = refusal(file)
    assert error.problems[0].line == 1
    assert words in error.message


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
_NEARLY = st.dictionaries(
    st.sampled_from(["messages", "tools", "prompt", "completion", "input", "preferred_output", "x"]),
    _JSON | st.lists(st.dictionaries(st.sampled_from(["role", "content", "weight", "tool_calls", "name"]), _JSON)),
)


@given(
    st.binary() | _JSON.map(lambda value: json.dumps(value).encode()) | _NEARLY.map(lambda v: json.dumps(v).encode())
)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_bytes(content)
    try:
        count = read_examples(file).count
    except InvalidTrainingFile as error:
        count = len(error.problems)
        error.message.encode()
    assert count >= 1
