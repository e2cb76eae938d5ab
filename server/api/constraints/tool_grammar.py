"""The grammar of an answer that may call, or has to call, one of several functions."""

from collections.abc import Sequence

from server.api.constraints.grammar import Part, quoted_text
from server.api.constraints.tool_format import ToolDialect

_ANSWER = "answer"
_ANY_TEXT = r"/(.|\n)*/"
_TEXT_THAT_IS_NO_CALL = r"/([^{](.|\n)*)?/"


def call_parts(
    dialect: ToolDialect,
    functions: Sequence[tuple[str, Part]],
    *,
    required: bool,
    parallel: bool,
    answer: Part | None = None,
) -> list[Part]:
    """The parts of a grammar of calls, the starting one first.

    Up to the trigger, text is free; behind it the grammar writes the call, so that what is called exists, and its
    arguments are valid.

    Args:
        functions: names, with the grammar of their arguments.
        required: the answer has to be a call, from its first token.
        parallel: several calls may follow each other.
        answer: what an answer that is no call must be; None is free text.
    """
    form = dialect.format
    heads = [f"{quoted_text(form.head(name))} @{_arguments(place)}" for place, (name, _) in enumerate(functions)]
    repeated = f" ({quoted_text(form.between)} call)*" if parallel else ""
    lines = [
        f"start: {' | '.join(_alternatives(dialect, required=required, bound=answer is not None))}",
        f"calls: {_sequence(form.opens, f'call{repeated}', form.closes)}",
        f"call: {' | '.join(heads)}",
        f"lead[lazy]: TEXT {quoted_text(form.trigger)}" if form.trigger and dialect.trigger_token is None else "",
        f"TEXT: {_ANY_TEXT if form.trigger else _TEXT_THAT_IS_NO_CALL}",
    ]
    parts: list[Part] = [{"name": "calls", "lark_grammar": "\n".join(lines) + "\n"}]
    parts += [{"name": _arguments(place), **part} for place, (_, part) in enumerate(functions)]
    if answer is not None:
        parts.append({"name": _ANSWER, **answer})
    return parts


def _alternatives(dialect: ToolDialect, *, required: bool, bound: bool) -> list[str]:
    """What the whole answer may be."""
    trigger = dialect.format.trigger
    token = dialect.trigger_token
    triggered = f"<[{token}]> calls" if token is not None else _sequence(trigger, "calls", "")
    if required:
        return [triggered]
    if bound:
        return [f"@{_ANSWER}", triggered]
    # Lazy, so that the first trigger ends the free text: without it the text could run on over a call.
    return ["TEXT", "lead calls" if trigger and token is None else triggered]


def _sequence(before: str, rule: str, after: str) -> str:
    texts = [quoted_text(before) if before else "", rule, quoted_text(after) if after else ""]
    return " ".join(text for text in texts if text)


def _arguments(place: int) -> str:
    return f"arguments_{place}"
