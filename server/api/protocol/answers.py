"""The shapes of the answers, as OpenAI's clients read them, with this server's own `switchyard` object."""

from typing import Literal

from pydantic import BaseModel

from server.api.routing.fallback_causes import FallbackCause
from server.engine.messages import FallbackReason, Tier

FinishReason = Literal["stop", "length"]
ChatFinishReason = Literal["stop", "length", "tool_calls"]


class PromptTokensDetails(BaseModel):
    """Of the prompt's tokens, those that came from the prefix cache."""

    cached_tokens: int


class Usage(BaseModel):
    """Tokens of one request. A prompt counts once, however many choices continue it."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokensDetails


class Fallback(BaseModel):
    """Why the base answered in the place of an adapter."""

    reason: FallbackCause
    detail: str | None


class PassedTarget(BaseModel):
    """A target of a task route that could not be applied, before the one that answers."""

    adapter: str
    digest: str | None
    reason: FallbackReason | None
    detail: str


class Origin(BaseModel):
    """What answered: an adapter and its digest, or `base` and no digest; and how a task route chose it."""

    adapter: str
    digest: str | None
    fallback: Fallback | None
    cached_tokens: int
    residency: Tier | None = None
    task: str | None = None
    rule: str | None = None
    arm: str | None = None
    tier: int | None = None
    passed: list[PassedTarget] | None = None


class CompletionLogprobs(BaseModel):
    """Of each token: its text, its score, those of the likeliest at its place, and where it begins in the text.

    The first token of an echoed prompt has no score.
    """

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]


class RankedToken(BaseModel):
    """A token of a prompt, or a likely one in its place; `rank` is null beyond those asked for."""

    logprob: float
    rank: int | None
    decoded_token: str


PromptLogprobs = list[dict[str, RankedToken] | None]


class CompletionChoice(BaseModel):
    """The text; `finish_reason` is null in all chunks of a stream but the last of the choice.

    `switchyard` stands here where something else answered this choice than the answer's own object says.
    """

    index: int
    text: str
    logprobs: CompletionLogprobs | None
    finish_reason: FinishReason | None
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None
    token_ids: list[int] | None = None
    switchyard: Origin | None = None


class Completion(BaseModel):
    """The answer of `/v1/completions`, whole or one chunk of a stream."""

    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: Usage | None = None
    switchyard: Origin | None = None


class Function(BaseModel):
    """What is called; the arguments are JSON as text."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """One call of a tool."""

    id: str
    type: Literal["function"]
    function: Function


class AssistantMessage(BaseModel):
    """What the assistant said; `content` is null where it only called tools."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] | None = None


class LikelyToken(BaseModel):
    """A token with its score; `bytes` are exact where `token` is no whole text."""

    token: str
    logprob: float
    bytes: list[int]


class ScoredToken(LikelyToken):
    """A token of the answer, with the likeliest ones in its place."""

    top_logprobs: list[LikelyToken]


class ChatLogprobs(BaseModel):
    """The tokens of a message, or of a chunk of it."""

    content: list[ScoredToken]
    refusal: None


class ChatChoice(BaseModel):
    """The whole message.

    `switchyard` stands here where something else answered this choice than the answer's own object says.
    """

    index: int
    message: AssistantMessage
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinishReason
    token_ids: list[int] | None = None
    switchyard: Origin | None = None


class ChatCompletion(BaseModel):
    """The answer of `/v1/chat/completions`."""

    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[ChatChoice]
    usage: Usage
    switchyard: Origin
    prompt_logprobs: PromptLogprobs | None = None
    prompt_token_ids: list[int] | None = None


class FunctionDelta(BaseModel):
    """More of a call; the name stands in its first chunk alone."""

    name: str | None = None
    arguments: str


class ToolCallDelta(BaseModel):
    """More of the call `index`; the id stands in its first chunk alone."""

    index: int
    id: str | None = None
    type: Literal["function"] | None = None
    function: FunctionDelta


class ChatDelta(BaseModel):
    """What a chunk adds: the role in the first, text or calls in those between, nothing in the last."""

    role: Literal["assistant"] | None = None
    content: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class ChatChunkChoice(BaseModel):
    """One step of the message."""

    index: int
    delta: ChatDelta
    logprobs: ChatLogprobs | None
    finish_reason: ChatFinishReason | None
    token_ids: list[int] | None = None


class ChatCompletionChunk(BaseModel):
    """One chunk of a chat stream."""

    id: str
    object: Literal["chat.completion.chunk"]
    created: int
    model: str
    choices: list[ChatChunkChoice]
    usage: Usage | None = None
    switchyard: Origin | None = None
    prompt_token_ids: list[int] | None = None


class ErrorDetail(BaseModel):
    """What went wrong; `param` names the field at fault, where there is one."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """Every answer that is not a success."""

    error: ErrorDetail
