"""What binds an answer to a form: a grammar for its tokens, and a reader for its text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from server.api.constraints.content import ContentReader
from server.api.constraints.grammar import (
    MAX_GRAMMAR_BYTES,
    Part,
    check_length,
    check_part,
    choice_part,
    json_part,
    object_part,
    regex_part,
    rules_part,
    serialised,
)
from server.api.constraints.tool_call_reader import ToolCallReader
from server.api.constraints.tool_format import ToolDialect, ToolFormat
from server.api.constraints.tool_grammar import call_parts
from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.constraint_fields import Form
from server.api.protocol.generation_request import GenerationRequest
from server.api.text.text_threads import TextThreads
from server.api.text.tokenization import Tokenization
from server.errors import InvalidRequest, UnsupportedField


@dataclass(frozen=True)
class Constraining:
    """How one request's answers are bound. All None: they are free text.

    `grammar` is llguidance's serialised form. `reader` makes the reader of one choice. `tools` are what the chat
    template is to write out, `format` how their calls are written, None where none may be called.
    """

    grammar: str | None = None
    reader: Callable[[], ContentReader] | None = None
    tools: Sequence[dict[str, Any]] | None = None
    format: ToolFormat | None = None

    def check_speaks(self, tokenization: Tokenization) -> None:
        """Raises UnsupportedField where the prompt of a target teaches other calls than those that are read."""
        if self.format not in (None, tokenization.tool_dialect.format):
            raise UnsupportedField(
                "tools: the chat templates of the adapters that may answer write calls in different formats; name one "
                "adapter as the model, or leave tools out",
                param="tools",
            )


async def constraint_of(asked: GenerationRequest, base: Tokenization, spoken: Tokenization) -> Constraining:
    """What binds the answers to a request. `spoken` is the first target's, in whose format tools are called.

    Raises:
        InvalidRequest: what was asked for cannot be made into a grammar; `param` is the field.
    """
    answer = await _answer_part(asked.form, base.threads) if asked.form is not None else None
    if isinstance(asked, ChatRequest) and asked.tools:
        return await _with_tools(asked, base, spoken, answer)
    return Constraining(serialised([answer]) if answer is not None else None)


async def _with_tools(
    asked: ChatRequest, base: Tokenization, spoken: Tokenization, answer: Part | None
) -> Constraining:
    shown = [tool.as_template_input() for tool in asked.tools]
    if not asked.callable_tools:
        return Constraining(serialised([answer]) if answer is not None else None, tools=shown)
    functions = []
    for place, function in asked.callable_tools:
        part = json_part(function.arguments_schema, lenient=function.strict is not True)
        await check_part(part, f"tools[{place}].function.parameters", base.threads)
        functions.append((function.name, part))
    dialect = _dialect(base, spoken)
    grammar = serialised(
        call_parts(
            dialect,
            functions,
            required=asked.must_call,
            parallel=asked.may_call_again,
            answer=answer,
        )
    )
    check_length(grammar, "tools", most=MAX_GRAMMAR_BYTES)
    reader = partial(
        ToolCallReader,
        dialect.format,
        [name for name, _ in functions],
        trigger_shown=dialect.trigger_token is None or not asked.skip_special_tokens,
    )
    return Constraining(grammar, reader, shown, dialect.format)


def _dialect(base: Tokenization, spoken: Tokenization) -> ToolDialect:
    """A target's own format, in the base's tokens, which are those that the engine knows."""
    if spoken.tool_dialect.format == base.tool_dialect.format:
        return base.tool_dialect
    if spoken.tokenizer is base.tokenizer:
        return spoken.tool_dialect
    raise UnsupportedField(
        "tools: the adapter's chat template writes calls in another format than the base's, and in tokens of its own; "
        "leave tools out",
        param="tools",
    )


async def _answer_part(form: Form, threads: TextThreads) -> Part:
    """Raises InvalidRequest where the form cannot be made into a grammar."""
    if isinstance(form.description, str):
        check_length(form.description, form.param)
    try:
        part = await threads.run(_part, form)
    except (ValueError, RecursionError) as error:
        raise InvalidRequest(f"{form.param} cannot be used: {str(error)[:300]}", param=form.param) from None
    await check_part(part, form.param, threads)
    return part


def _part(form: Form) -> Part:
    """Raises ValueError where the description is malformed."""
    match form.kind:
        case "json_schema":
            return json_part(form.description, lenient=form.lenient)
        case "json_object":
            return object_part()
        case "regex":
            return regex_part(form.description)
        case "choice":
            return choice_part(form.description)
        case "rules":
            return rules_part(form.description)
