"""Chat templates of strangers: the variables that they are written for, and whether one works at all."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from adapters_store.errors import ChatTemplateFailed
from adapters_store.template_process import TemplateProcess

_PROBE: Final = ({"role": "user", "content": "Hello"},)


def template_variables(
    messages: Sequence[Mapping[str, Any]],
    special_tokens: Mapping[str, str],
    *,
    add_generation_prompt: bool = True,
    tools: Sequence[Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """The variables of a chat template, by the names that transformers gives them; all are JSON."""
    return {
        **special_tokens,
        "messages": list(messages),
        "tools": list(tools) if tools else None,
        "documents": None,
        "add_generation_prompt": add_generation_prompt,
    }


def probe_template(template: str, special_tokens: Mapping[str, str]) -> None:
    """Write a conversation of one message with a template.

    Raises:
        ChatTemplateFailed: it does not compile, refuses, fails, writes nothing, or takes too much time, memory or text.
        OSError: no process can be started.
    """
    with TemplateProcess() as process:
        text = process.render(template, template_variables(_PROBE, special_tokens))
    if not text:
        raise ChatTemplateFailed("the chat template writes nothing of a conversation: write its messages")
