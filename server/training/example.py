"""What a training file holds, validated: the same three forms that OpenAI takes."""

from typing import Any

import msgspec


class Message(msgspec.Struct, frozen=True, kw_only=True):
    """A turn of a conversation. `weight` 0 on an assistant's turn: it is context, and not learnt."""

    role: str
    content: str
    weight: float = 1.0
    name: str | None = None
    tool_calls: tuple[dict[str, Any], ...] = ()
    tool_call_id: str | None = None


class ChatExample(msgspec.Struct, frozen=True, kw_only=True, tag="chat"):
    """A conversation; the assistant's turns are learnt."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


class CompletionExample(msgspec.Struct, frozen=True, kw_only=True, tag="completion"):
    """Plain text, without a chat template; the completion is learnt."""

    prompt: str
    completion: str


class PreferenceExample(msgspec.Struct, frozen=True, kw_only=True, tag="preference"):
    """A conversation with a preferred and a non-preferred ending."""

    messages: tuple[Message, ...]
    preferred: tuple[Message, ...]
    rejected: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...] = ()


Example = ChatExample | CompletionExample | PreferenceExample
