"""What binds an answer to a form: a grammar for its tokens, and a reader for its text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

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
from server.api.constraints.tool_grammar import call_parts
from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.constraint_fields import Form
from server.api.protocol.generation_request import GenerationRequest
from server.api.text.text_threads import TextThreads
from server.errors import InvalidRequest

if TYPE_CHECKING:
    from server.api.context import ServedModel


@dataclass(frozen=True)
class Constraining:
    """How one request's answers are bound. All None: they are free text.

    `grammar` is llguidance's serialised form. `reader` makes the reader of one choice. `tools` are what the chat
    template is to write out.
    """

    grammar: str | None = None
    reader: Callable[[], ContentReader] | None = None
    tools: Sequence[dict[str, Any]] | None = None


async def constraint_of(asked: GenerationRequest, model: "ServedModel") -> Constraining:
    """What binds the answers to a request.

    Raises:
        InvalidRequest: what was asked for cannot be made into a grammar; `param` is the field.
    """
    threads = model.tokenization.threads
    answer = await _answer_part(asked.form, threads) if asked.form is not None else None
    if isinstance(asked, ChatRequest) and asked.tools:
        return await _with_tools(asked, model, answer)
    return Constraining(serialised([answer]) if answer is not None else None)


async def _with_tools(asked: ChatRequest, model: "ServedModel", answer: Part | None) -> Constraining:
    shown = [tool.as_template_input() for tool in asked.tools]
    if not asked.callable_tools:
        return Constraining(serialised([answer]) if answer is not None else None, tools=shown)
    functions = []
    for place, function in asked.callable_tools:
        part = json_part(function.arguments_schema, lenient=function.strict is not True)
        await check_part(part, f"tools[{place}].function.parameters", model.tokenization.threads)
        functions.append((function.name, part))
    dialect = model.tokenization.tool_dialect
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
    return Constraining(grammar, reader, shown)


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
