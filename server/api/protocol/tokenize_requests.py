"""`POST /tokenize` and `POST /detokenize`, in vLLM's form."""

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import BaseModel, Field, model_validator
from pydantic_core import PydanticCustomError

from server.api.protocol.messages import MAX_MESSAGES, Message
from server.api.protocol.strict_fields import Neutral, StrictFields, refused_field

MAX_TOKENS = 1_000_000


class TokenizeRequest(StrictFields):
    """A text, or a conversation that is written out by the chat template first."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        "chat_template": Neutral(),
        "chat_template_kwargs": Neutral({}),
        "inputs": Neutral(hint="send the text as `prompt`"),
        "media_io_kwargs": Neutral(),
        "mm_processor_kwargs": Neutral(),
    }

    model: str = Field("base", min_length=1, description="Whose tokenizer: `base`, or an adapter.")
    prompt: str | None = Field(None, description="The text.")
    messages: list[Message] | None = Field(
        None, min_length=1, max_length=MAX_MESSAGES, description="The conversation, instead of a text."
    )
    tools: list[dict[str, Any]] = Field(default_factory=list, description="Tools that the template is to write out.")
    add_special_tokens: bool | None = Field(
        None, description="Add the tokenizer's special tokens; true by default for a text, false for a conversation."
    )
    add_generation_prompt: bool = Field(True, description="Write a conversation up to where the assistant speaks.")
    continue_final_message: bool = Field(False, description="End where the last message does.")
    return_token_strs: bool = Field(False, description="Add `token_strs`, the tokens as the vocabulary spells them.")

    @model_validator(mode="after")
    def _one_of_two(self) -> "TokenizeRequest":
        if self.prompt is None and self.messages is None:
            raise PydanticCustomError("missing", "is required, or messages in its place", {"field": "prompt"})
        if self.prompt is not None and self.messages is not None:
            raise refused_field("prompt", "may not be given together with messages")
        if self.messages is None and not {"tools", "continue_final_message"}.isdisjoint(self.model_fields_set):
            raise refused_field("messages", "is required with tools and continue_final_message")
        if self.continue_final_message and self.add_generation_prompt:
            raise refused_field("continue_final_message", "needs add_generation_prompt false")
        return self


class TokenizeAnswer(BaseModel):
    """The tokens, their number, and the longest prompt plus answer that the base takes."""

    count: int
    max_model_len: int
    tokens: list[int]
    token_strs: list[str | None] | None


class DetokenizeRequest(StrictFields):
    """Token ids."""

    model: str = Field("base", min_length=1, description="Whose tokenizer: `base`, or an adapter.")
    tokens: list[int] = Field(max_length=MAX_TOKENS, description="Token ids.")


class DetokenizeAnswer(BaseModel):
    """Their text, special tokens included."""

    prompt: str
