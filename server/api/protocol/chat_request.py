"""`POST /v1/chat/completions`."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field, model_validator

from server.api.protocol.generation_request import MAX_LOGPROBS, NEUTRAL, GenerationRequest
from server.api.protocol.messages import MAX_MESSAGES, Message
from server.api.protocol.strict_fields import Neutral, refused_field
from server.api.protocol.tool_fields import ToolFields

EXAMPLES: Mapping[str, dict[str, Any]] = {
    "answer": {"model": "base", "messages": [{"role": "user", "content": "Say hello."}], "max_completion_tokens": 8},
    "answer with log probabilities": {
        "model": "base",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Name a colour."}],
        "max_tokens": 4,
        "temperature": 0,
        "logprobs": True,
        "top_logprobs": 2,
    },
    "answer that is valid by a schema": {
        "model": "base",
        "messages": [{"role": "user", "content": "Where is the Louvre?"}],
        "max_tokens": 40,
        "response_format": {
            "type": "json_schema",
            "json_schema": {
                "name": "place",
                "schema": {
                    "type": "object",
                    "properties": {"city": {"type": "string", "maxLength": 20}},
                    "required": ["city"],
                    "additionalProperties": False,
                },
            },
        },
    },
    "call of a tool": {
        "model": "base",
        "messages": [{"role": "user", "content": "How is the weather in Paris?"}],
        "max_tokens": 60,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "weather",
                    "description": "The weather in a city.",
                    "parameters": {
                        "type": "object",
                        "properties": {"city": {"type": "string", "maxLength": 20}},
                        "required": ["city"],
                        "additionalProperties": False,
                    },
                },
            }
        ],
        "tool_choice": "required",
        "parallel_tool_calls": False,
    },
}
"""Bodies that the OpenAPI document shows, by what they do."""


class ChatRequest(ToolFields, GenerationRequest):
    """Answer a conversation, written out by the base model's chat template."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        **NEUTRAL,
        "prompt": Neutral(hint="send prompts to /v1/completions"),
        "audio": Neutral(),
        "chat_template": Neutral(),
        "chat_template_kwargs": Neutral({}),
        "documents": Neutral([]),
        "echo": Neutral(False),
        "function_call": Neutral("none", "auto"),
        "functions": Neutral([]),
        "modalities": Neutral(["text"]),
        "prediction": Neutral(),
        "reasoning_effort": Neutral("none"),
        "verbosity": Neutral("medium"),
        "web_search_options": Neutral(),
    }
    prompt_field: ClassVar[str] = "messages"

    messages: list[Message] = Field(
        min_length=1, max_length=MAX_MESSAGES, description="The conversation so far, oldest first; text only."
    )
    max_completion_tokens: int | None = Field(
        None, ge=1, description="OpenAI's newer name of `max_tokens`; the rest of the context by default."
    )

    logprobs: bool = Field(False, description="Score the tokens of the answer.")
    top_logprobs: int = Field(
        0, ge=0, le=MAX_LOGPROBS, description="With `logprobs`: beside each token that many of the likeliest, 0 to 20."
    )
    add_generation_prompt: bool = Field(
        True, description="End the prompt with the beginning of the assistant's turn; true by default."
    )
    continue_final_message: bool = Field(
        False, description="Let the answer continue the last message; `add_generation_prompt` must then be false."
    )
    add_special_tokens: bool = Field(
        False, description="Add the tokenizer's special tokens beside those that the chat template writes."
    )

    @model_validator(mode="after")
    def _chat_fields_fit_together(self) -> "ChatRequest":
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise refused_field("max_tokens", "differs from max_completion_tokens, its newer name; send one of the two")
        if self.top_logprobs and not self.logprobs:
            raise refused_field("top_logprobs", "needs `logprobs` to be true")
        if self.continue_final_message and self.add_generation_prompt:
            raise refused_field("continue_final_message", "needs `add_generation_prompt` to be false")
        return self

    @property
    def prompt_copies(self) -> int:
        """One: the prompt's scores stand beside the choices."""
        return 1

    @property
    def shown_logprobs(self) -> int | None:
        """How many of the likeliest tokens the client sees beside each token of the answer, None: no scores."""
        return self.top_logprobs if self.logprobs else None

    @property
    def token_limit(self) -> int | None:
        """The most tokens the client asked for, None where it named no number."""
        return self.max_completion_tokens if self.max_completion_tokens is not None else self.max_tokens

    @property
    def limit_field(self) -> str:
        """The field that `token_limit` came from."""
        return "max_completion_tokens" if self.max_completion_tokens is not None else "max_tokens"
