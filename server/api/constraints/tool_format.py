"""How a base writes the calls of tools into its text."""

from dataclasses import dataclass
from functools import cached_property

from tokenizers import Tokenizer


@dataclass(frozen=True)
class ToolFormat:
    """The text of calls: `trigger`, `opens`, a call, any number of times `between` and a call, `closes`.

    A call is a head, which names the function, and the arguments as a JSON object. Whatever stands behind the
    arguments belongs to `between` and `closes`. Without a `trigger` only the beginning of an answer can be a call.
    """

    trigger: str
    opens: str
    arguments_key: str
    between: str
    closes: str

    def head(self, name: str) -> str:
        """The beginning of a call, up to its arguments. A name needs no escapes."""
        return f'{{"name": "{name}", "{self.arguments_key}": '

    def written(self, calls: list[tuple[str, str]]) -> str:
        """Names and arguments as one text."""
        return (
            self.trigger
            + self.opens
            + self.between.join(self.head(name) + arguments for name, arguments in calls)
            + self.closes
        )


HERMES = ToolFormat(
    trigger="<tool_call>",
    opens="\n",
    arguments_key="arguments",
    between="}\n</tool_call>\n<tool_call>\n",
    closes="}\n</tool_call>",
)
"""Hermes and Qwen; also told to bases whose template knows of no tools."""

LLAMA = ToolFormat(trigger="", opens="", arguments_key="parameters", between="}; ", closes="}")
"""Llama 3: an answer that begins like a call is one."""

MISTRAL = ToolFormat(trigger="[TOOL_CALLS]", opens="[", arguments_key="arguments", between="}, ", closes="}]")
SPACED_MISTRAL = ToolFormat(trigger="[TOOL_CALLS]", opens=" [", arguments_key="arguments", between="}, ", closes="}]")
"""As the first templates of Mistral's have it."""


def format_of(template: str | None) -> ToolFormat:
    """The format that a chat template speaks of; Hermes's where it speaks of none."""
    text = template or ""
    if HERMES.trigger in text:
        return HERMES
    if MISTRAL.trigger in text:
        return SPACED_MISTRAL if f"{MISTRAL.trigger}{SPACED_MISTRAL.opens}" in text else MISTRAL
    if '"parameters"' in text and ("ipython" in text or "<|python_tag|>" in text):
        return LLAMA
    return HERMES


@dataclass(frozen=True)
class ToolDialect:
    """A format in one tokenizer, where the trigger may be a special token, with an id and often unseen."""

    format: ToolFormat
    tokenizer: Tokenizer

    @cached_property
    def trigger_token(self) -> int | None:
        """The special token that is the trigger; None where the trigger is plain text."""
        token_id = self.tokenizer.token_to_id(self.format.trigger) if self.format.trigger else None
        added = self.tokenizer.get_added_tokens_decoder() if token_id is not None else {}
        return token_id if token_id in added and added[token_id].special else None
