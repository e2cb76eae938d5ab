"""What a reader makes of the text of a choice: content and calls, whole and as a stream."""

from collections.abc import Sequence
from typing import Any

import pytest

from server.api.constraints.constraining import Constraining
from server.api.constraints.content import Delta, ToolCallPiece
from server.api.protocol.answers import ChatCompletion, ChatCompletionChunk
from server.engine.messages import FinishReason
from tests.api.harness import Bench, serving
from tests.api.scripted_engine import saying, saying_with_scores, scored
from tests.api.test_streams import events_of

pytestmark = pytest.mark.anyio

CHAT: dict[str, Any] = {"model": "base", "messages": [{"role": "user", "content": "hello"}]}
TOOLS = [{"type": "function", "function": {"name": "weather"}}]


class BarReader:
    """Text before a bar is content; behind each bar stand the arguments of a call. A last `.` is held back."""

    def __init__(self) -> None:
        self._calls = 0
        self._held = ""

    def push(self, text: str) -> Sequence[Delta]:
        text, self._held = self._held + text, ""
        if text.endswith("."):
            text, self._held = text[:-1], "."
        deltas: list[Delta] = []
        for place, part in enumerate(text.split("|")):
            if place:
                self._calls += 1
                deltas.append(ToolCallPiece(self._calls - 1, "", f"call_{self._calls}", "weather"))
            if part:
                deltas.append(ToolCallPiece(self._calls - 1, part) if self._calls else part)
        return deltas

    def finish(self) -> Sequence[Delta]:
        held, self._held = self._held, ""
        return [ToolCallPiece(self._calls - 1, held) if self._calls else held] if held else []

    def finish_reason(self, reason: FinishReason) -> str:
        return "tool_calls" if self._calls and reason == "stop" else reason


@pytest.fixture(autouse=True)
def constrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request is bound by the same grammar and read by a `BarReader`; the template takes the tools."""

    async def constraint_of(*_: object) -> Constraining:
        return Constraining("a grammar", BarReader, TOOLS)

    monkeypatch.setattr("server.api.generation.generation_endpoint.constraint_of", constraint_of)

    async def shows_tools(_: object) -> bool:
        return True

    monkeypatch.setattr("server.api.text.tokenization.Tokenization._template_shows_tools", shows_tools)


async def test_calls_are_part_of_the_message(bench: Bench) -> None:
    engine = bench.engine(saying(bench.ids("I ask|one|two.")))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
    (choice,) = ChatCompletion.model_validate(response.json()).choices
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content == "I ask"
    assert choice.message.tool_calls is not None
    assert [(call.id, call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        ("call_1", "weather", "one"),
        ("call_2", "weather", "two."),
    ]
    assert engine.submitted[0].sampling.grammar == "a grammar"


async def test_a_message_of_calls_alone_has_no_content(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying(bench.ids("|one")))) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
    assert response.json()["choices"][0]["message"]["content"] is None


async def test_without_calls_a_message_is_as_ever(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying(bench.ids("fine.")))) as client:
        response = await client.post("/v1/chat/completions", json=CHAT)
        empty = await client.post("/v1/chat/completions", json=CHAT | {"stop": "f"})
    (choice,) = response.json()["choices"]
    assert choice["message"] == {"role": "assistant", "content": "fine.", "refusal": None}
    assert choice["finish_reason"] == "stop"
    assert empty.json()["choices"][0]["message"]["content"] == ""


async def test_calls_come_in_pieces(bench: Bench) -> None:
    async with serving(bench, bench.engine(saying(bench.ids("ask|one|two.")))) as client:
        *chunks, _ = events_of(await client.post("/v1/chat/completions", json=CHAT | {"stream": True}))
    content, calls = "", dict[int, dict[str, Any]]()
    for chunk in chunks:
        (choice,) = ChatCompletionChunk.model_validate(chunk).choices
        content += choice.delta.content or ""
        for call in choice.delta.tool_calls or ():
            known = calls.setdefault(call.index, {"id": call.id, "name": call.function.name, "arguments": ""})
            known["arguments"] += call.function.arguments
            assert (call.id is None) == (call.function.name is None) == (call.type is None)
    assert content == "ask"
    assert calls == {
        0: {"id": "call_1", "name": "weather", "arguments": "one"},
        1: {"id": "call_2", "name": "weather", "arguments": "two."},
    }
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


async def test_each_choice_is_read_by_itself(bench: Bench) -> None:
    texts = iter(["fine", "|one"])
    engine = bench.engine(lambda request: saying(bench.ids(next(texts)))(request))
    async with serving(bench, engine) as client:
        response = await client.post("/v1/chat/completions", json=CHAT | {"n": 2})
    assert [choice["finish_reason"] for choice in response.json()["choices"]] == ["stop", "tool_calls"]


async def test_the_tokens_of_calls_are_scored_too(bench: Bench) -> None:
    ids = bench.ids("ask|one.")
    engine = bench.engine(saying_with_scores([scored(token) for token in ids]))
    async with serving(bench, engine) as client:
        body = CHAT | {"logprobs": True, "stream": True}
        *chunks, _ = events_of(await client.post("/v1/chat/completions", json=body))
    told = [choice["logprobs"] for chunk in chunks for choice in chunk["choices"] if choice["logprobs"]]
    assert sum(len(logprobs["content"]) for logprobs in told) == len(ids)


async def test_tools_reach_the_template(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    noted = []

    async def encode(*_: object, **options: Any) -> list[int]:
        noted.append(options["tools"])
        return [5]

    monkeypatch.setattr("server.api.text.tokenization.Tokenization.encode_chat", encode)
    async with serving(bench, bench.engine(saying([]))) as client:
        assert (await client.post("/v1/chat/completions", json=CHAT)).status_code == 200
    assert noted == [TOOLS]
