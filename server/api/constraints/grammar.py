"""Grammars, from what clients send to llguidance's serialised form."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llguidance import LLMatcher, grammar_from

from server.api.text.text_threads import TextThreads
from server.engine.grammar import LIMITS, grammar_message
from server.errors import InvalidRequest

Part = Mapping[str, Any]
"""One grammar of a serialised list: `json_schema` or `lark_grammar`, and a `name` where another refers to it."""

MAX_PART_BYTES = 65_536
MAX_GRAMMAR_BYTES = 524_288

# One space, or a new line with its indentation: a model that has lost its way cannot write white space for ever.
_WHITE_SPACE = r"[ ]?|\n[ ]{0,24}"


def json_part(schema: Mapping[str, Any], *, lenient: bool = False) -> Part:
    """JSON that is valid by a schema. `lenient` passes over keywords that llguidance does not know."""
    options: Any = {"whitespace_pattern": _WHITE_SPACE, "lenient": lenient}
    own = schema.get("x-guidance", {})
    return {"json_schema": {**schema, "x-guidance": {**options, **own} if isinstance(own, Mapping) else own}}


def object_part() -> Part:
    """Any JSON object."""
    return json_part({"type": "object"})


def regex_part(pattern: str) -> Part:
    """A text that a regular expression matches from end to end.

    Raises:
        ValueError: the pattern is not text.
    """
    part: Part = json.loads(LLMatcher.grammar_from_regex(pattern))["grammars"][0]
    return {"lark_grammar": part["lark_grammar"]}


def choice_part(choices: Sequence[str]) -> Part:
    """One of several texts."""
    return {"lark_grammar": "start: " + " | ".join(quoted_text(choice) for choice in choices)}


def rules_part(text: str) -> Part:
    """What a grammar in Lark's notation, or in GBNF, describes.

    Raises:
        ValueError: it is taken for GBNF, and is not.
    """
    return {"lark_grammar": grammar_from("grammar", text)}


def quoted_text(text: str) -> str:
    """A text as a terminal of a Lark grammar."""
    return json.dumps(text, ensure_ascii=False)


def serialised(parts: Sequence[Part]) -> str:
    """The grammar whose start is the first part's."""
    return json.dumps({"grammars": list(parts)}, ensure_ascii=False, separators=(",", ":"))


async def check_part(part: Part, param: str, threads: TextThreads) -> None:
    """Let llguidance read a part by itself, in a thread: a large one takes it some tenths of a second.

    Raises:
        InvalidRequest: the part is too large, malformed, uses what is not supported, or allows nothing.
    """
    try:
        grammar = serialised([part])
    except RecursionError:
        raise InvalidRequest(f"{param} is nested too deeply", param=param) from None
    check_length(grammar, param)
    if message := await threads.run(_complaint, grammar):
        raise InvalidRequest(f"{param} cannot be used: {message}", param=param)


def check_length(grammar: str, param: str, *, most: int = MAX_PART_BYTES) -> None:
    """Raises InvalidRequest where a grammar, or what it is made of, is longer than `most` bytes."""
    size = len(grammar.encode(errors="surrogatepass"))
    if size > most:
        raise InvalidRequest(f"{param} makes a grammar of {size} bytes; at most {most} are allowed", param=param)


def _complaint(grammar: str) -> str:
    """What is wrong with a grammar; empty where nothing is."""
    try:
        wrong, messages = LLMatcher.validate_grammar_with_warnings(grammar, limits=LIMITS)
    except UnicodeEncodeError:
        return "it holds half of a surrogate pair, which is not a character"
    return grammar_message(messages[0]) if wrong else ""
