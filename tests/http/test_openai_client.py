"""The `openai` client against a real server, as an application would use it."""

import openai
import pytest
from openai import OpenAI

from tests.http.real_server import RealServer


@pytest.fixture(scope="module")
def client(server: RealServer) -> OpenAI:
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_chat_and_completion(client: OpenAI, adapters: dict[str, str]) -> None:
    chat = client.chat.completions.create(
        model="red", messages=[{"role": "user", "content": "Hello"}], max_tokens=8, temperature=0
    )
    assert chat.choices[0].message.role == "assistant"
    assert chat.usage is not None
    assert chat.usage.completion_tokens <= 8
    completion = client.completions.create(model="base:red", prompt="Hello", max_tokens=8, temperature=0)
    assert completion.model == "base:red"
    assert completion.choices[0].finish_reason in ("stop", "length")


def test_a_stream_says_what_the_whole_answer_says(client: OpenAI, adapters: dict[str, str]) -> None:
    def ask(stream: bool) -> object:
        return client.chat.completions.create(  # type: ignore[call-overload]
            model="green",
            messages=[{"role": "user", "content": "Tell me"}],
            max_tokens=30,
            temperature=0,
            stream=stream,
            **({"stream_options": {"include_usage": True}} if stream else {}),
        )

    whole = ask(stream=False)
    chunks = list(ask(stream=True))  # type: ignore[call-overload]
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content  # type: ignore[attr-defined]
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens  # type: ignore[attr-defined]


def test_a_stop_string_ends_the_text_before_it(client: OpenAI) -> None:
    free = client.completions.create(model="base", prompt="abc", max_tokens=24, temperature=0).choices[0].text
    stop = free[5:7]
    assert stop
    cut = client.completions.create(model="base", prompt="abc", max_tokens=24, temperature=0, stop=[stop])
    assert cut.choices[0].text == free[: free.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_a_seed_reproduces_a_text(client: OpenAI, adapters: dict[str, str]) -> None:
    def ask(seed: int) -> str:
        answer = client.completions.create(model="blue", prompt="xyz", max_tokens=24, temperature=1.2, seed=seed)
        return answer.choices[0].text

    assert ask(7) == ask(7)
    assert len({ask(seed) for seed in range(4)}) > 1


def test_models_are_listed_with_their_parent(client: OpenAI, adapters: dict[str, str]) -> None:
    cards = {card.id: card for card in client.models.list()}
    assert set(adapters) <= set(cards)
    assert cards["red"].parent in cards  # type: ignore[attr-defined]


def test_errors_have_the_types_that_applications_catch(client: OpenAI, adapters: dict[str, str]) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.completions.create(model="rad", prompt="x")
    assert missing.value.code == "model_not_found"
    assert "red" in missing.value.message
    with pytest.raises(openai.BadRequestError) as unsupported:
        client.completions.create(model="red", prompt="x", suffix="y")
    assert unsupported.value.param == "suffix"
    with pytest.raises(openai.BadRequestError) as long:
        client.completions.create(model="red", prompt="x" * 600, max_tokens=1)
    assert long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError) as path:
        client.completions.create(model="../../etc/passwd", prompt="x")
    assert path.value.code == "invalid_model_name"
