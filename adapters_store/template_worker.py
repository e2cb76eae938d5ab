"""The program that renders chat templates of strangers, run as a process of its own.

It stands alone (no import of ours), so that it can run in an isolated interpreter with an empty environment. What
bounds a template is the process: its address space, and a timer of CPU time whose signal ends the process, whatever
Python is doing then. Jinja's sandbox keeps a template from attributes and calls that lead outside.

A message is a 4-byte big-endian length and that many bytes of JSON. A request has `template`, `context` (the
variables), `limit` (characters of output) and `cpu_seconds`; the answer has `text`, or `error`.
"""

import json
import resource
import signal
import socket
import sys
from collections.abc import Iterator
from datetime import datetime
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, TemplateSyntaxError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

LENGTH_BYTES = 4
_ADDRESS_SPACE_BYTES = 512 * 1024 * 1024
_MOST_ERROR_CHARS = 300


class _GenerationTag(Extension):
    """`{% generation %}`, by which templates mark the assistant's words for training; here its body alone."""

    tags = {"generation"}  # noqa: RUF012 -- jinja's own form

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return list(parser.parse_statements(("name:endgeneration",), drop_needle=True))


def chat_environment() -> ImmutableSandboxedEnvironment:
    """The environment that chat templates are written for: that of transformers, by its documented names."""
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _GenerationTag]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment


def render(template: Template, context: dict[str, Any], limit: int) -> str:
    """The text, piece by piece, so that one without end is cut where it passes `limit` characters.

    Raises:
        ValueError: it is longer.
    """
    pieces: list[str] = []
    length = 0
    for piece in template.generate(**context):
        length += len(piece)
        if length > limit:
            raise ValueError(f"writes more than {limit} characters")
        pieces.append(piece)
    return "".join(pieces)


def answer(environment: ImmutableSandboxedEnvironment, request: dict[str, Any]) -> dict[str, str]:
    """The answer to one request; never raises."""
    try:
        template = environment.from_string(request["template"])
        return {"text": render(template, request["context"], request["limit"])}
    except TemplateSyntaxError as error:
        return {"error": _cut(f"does not compile: line {error.lineno}: {error.message}")}
    except TemplateError as error:
        return {"error": _cut(f"refuses: {error.message}")}
    except MemoryError:
        return {"error": "needs more memory than a chat template may"}
    except RecursionError:
        return {"error": "is nested too deeply"}
    except Exception as error:  # whatever a template makes Python raise is that template's fault
        return {"error": _cut(f"fails: {type(error).__name__}: {error}")}


def serve(connection: socket.socket) -> None:
    """Answer until the other side closes."""
    environment = chat_environment()
    while (request := _receive(connection)) is not None:
        signal.setitimer(signal.ITIMER_PROF, request["cpu_seconds"])
        reply = json.dumps(answer(environment, request)).encode()
        signal.setitimer(signal.ITIMER_PROF, 0)
        connection.sendall(len(reply).to_bytes(LENGTH_BYTES, "big") + reply)


def _receive(connection: socket.socket) -> dict[str, Any] | None:
    head = b"".join(_exactly(connection, LENGTH_BYTES))
    if len(head) < LENGTH_BYTES:
        return None
    body = b"".join(_exactly(connection, int.from_bytes(head, "big")))
    request: dict[str, Any] = json.loads(body)
    return request


def _exactly(connection: socket.socket, size: int) -> Iterator[bytes]:
    """`size` bytes, or fewer where the other side closed."""
    while size and (chunk := connection.recv(min(size, 1 << 20))):
        size -= len(chunk)
        yield chunk


def _tojson(
    value: object,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as models were trained on it; jinja's own filter escapes HTML."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: object) -> NoReturn:
    raise TemplateError(str(message))


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


def _cut(text: str) -> str:
    return text if len(text) <= _MOST_ERROR_CHARS else f"{text[:_MOST_ERROR_CHARS]}…"


def main() -> None:
    """Serve on the socket that is standard input."""
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    space = _ADDRESS_SPACE_BYTES if most == resource.RLIM_INFINITY else min(most, _ADDRESS_SPACE_BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (space, space))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    # The parent's time limit must hold also where a supervisor left the signal ignored.
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with socket.socket(fileno=sys.stdin.fileno()) as connection:
        serve(connection)


if __name__ == "__main__":
    main()
