"""Command-line flags made from the settings, one for each."""

import inspect
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from server.config import Settings
from server.errors import ConfigurationError

# The key is read from the environment alone, so that it is in no process list; remote code is never run.
WITHOUT_FLAG = frozenset({"api_key", "trust_remote_code"})


def with_setting_flags(command: Callable[..., None]) -> Callable[..., None]:
    """Give `command(*, …, **flags)` a flag for every setting; one that is not given is None."""
    own = [
        parameter
        for parameter in inspect.signature(command).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    flags = [_flag(name, field) for name, field in Settings.model_fields.items() if name not in WITHOUT_FLAG]
    command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
    return command


def settings_from(flags: Mapping[str, Any]) -> Settings:
    """Settings from the environment, overridden by the flags that were given.

    Raises:
        ConfigurationError: a value, or a combination of values, is impossible; the message names each.
    """
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [_problem(details) for details in error.errors(include_url=False, include_input=False)]
        raise ConfigurationError("; ".join(problems)) from None


def _flag(name: str, field: FieldInfo) -> inspect.Parameter:
    dashed = name.replace("_", "-")
    declaration = f"--{dashed}/--no-{dashed}" if field.annotation is bool else f"--{dashed}"
    help_text = f"{field.description} [{_default(field)}; SWITCHYARD_{name.upper()}]"
    option = typer.Option(declaration, help=help_text, show_default=False)
    annotation = operator.getitem(Annotated, (_value_type(field.annotation) | None, option))
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _value_type(annotation: Any) -> Any:
    """The type of a value that is given: without the None of an optional setting."""
    if get_origin(annotation) in (Union, UnionType):
        return _value_type(next(part for part in get_args(annotation) if part is not type(None)))
    if get_origin(annotation) is Annotated:
        return _value_type(get_args(annotation)[0])
    # A list is one text; the settings split it, as they do that of the environment.
    return str if get_origin(annotation) is tuple else annotation


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True, validated_data={})
    if value is None:
        return "not set"
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = Path("~") / value.relative_to(Path.home())
    return f"default {value}"


def _problem(details: Any) -> str:
    place = ".".join(str(part) for part in details["loc"])
    message = details["msg"].removeprefix("Value error, ")
    return f"{place}: {message}" if place else message
