"""The shapes of the answers, as OpenAI's clients read them, with this server's own `switchyard` object."""

from typing import Literal

from pydantic import BaseModel

from server.engine.messages import FallbackReason

FinishReason = Literal["stop", "length"]


class PromptTokensDetails(BaseModel):
    """Of the prompt's tokens, those that came from the prefix cache."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens of one request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Fallback(BaseModel):
    """Why the base answered in the place of an adapter."""

    reason: FallbackReason
    detail: str | None


class Origin(BaseModel):
    """What answered: an adapter and its digest, or `base` and no digest."""

    adapter: str
    digest: str | None
    fallback: Fallback | None
    cached_tokens: int


class CompletionChoice(BaseModel):
    """The text; `finish_reason` is null in all chunks of a stream but the last."""

    index: int
    text: str
    logprobs: None
    finish_reason: FinishReason | None


class Completion(BaseModel):
    """The answer of `/v1/completions`, whole or one chunk of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    switchyard: Origin | None = None


class AssistantMessage(BaseModel):
    """What the assistant said."""

    role: Literal["assistant"]
    content: str
    refusal: None


class ChatChoice(BaseModel):
    """The whole message."""

    index: int
    message: AssistantMessage
    logprobs: None
    finish_reason: FinishReason


class ChatCompletion(BaseModel):
    """The answer of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    switchyard: Origin


class ChatDelta(BaseModel):
    """What a chunk adds: the role in the first, text in those between, nothing in the last."""

    role: Literal["assistant"] | None = None
    content: str | None = None


class ChatChunkChoice(BaseModel):
    """One step of the message."""

    index: int
    delta: ChatDelta
    logprobs: None
    finish_reason: FinishReason | None


class ChatCompletionChunk(BaseModel):
    """One chunk of a chat stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    switchyard: Origin | None = None


class ErrorDetail(BaseModel):
    """What went wrong; `param` names the field at fault, where there is one."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail
