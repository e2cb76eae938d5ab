"""Request models that know three kinds of fields: acted on, known but not acted on, and unknown.

A field that is not acted on is accepted when it is null or says what happens anyway (`n: 1`); any other value
is refused by name. Nothing a client asks for is ever ignored.
"""

import difflib
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from server.errors import InvalidRequest, UnsupportedField

# How alike an unknown field and a known one must be for a suggestion; 1 is equal.
_ALIKE = 0.75
_JSON_TYPES: Mapping[type, str] = {bool: "boolean", dict: "object", str: "string"}
UNSUPPORTED = "unsupported_parameter"
_MISSING_NAMES = {"missing": "is required", "string_type": "must be a string", "list_type": "must be a list"}


class Neutral:
    """The values of a field that ask for nothing; `hint` says what to do instead of any other value."""

    __slots__ = ("hint", "values")

    def __init__(self, *values: object, hint: str = "") -> None:
        self.values = values
        self.hint = hint

    def accepts(self, value: object) -> bool:
        """Whether `value` is neutral. `True` is not 1 here, although Python says so."""
        return any(value == neutral and isinstance(value, bool) == isinstance(neutral, bool) for neutral in self.values)

    def refusal(self, field: str) -> str:
        """The message for any other value."""
        accepted = " or ".join(json.dumps(value) for value in self.values)
        leave = f"leave it out, or send {accepted}" if self.values else "leave it out"
        return f"{field} is not supported by this server; {self.hint or leave}"


class Label(Neutral):
    """A field of the client's own bookkeeping, of the given type, that asks nothing of the answer."""

    __slots__ = ("kind",)

    def __init__(self, kind: type) -> None:
        super().__init__()
        self.kind = kind

    def refusal(self, field: str) -> str:
        return f"{field} must be of type {_JSON_TYPES[self.kind]}"

    def accepts(self, value: object) -> bool:
        """Whether `value` has the label's type."""
        return isinstance(value, self.kind)


class StrictFields(BaseModel):
    """A model that takes null as "not given" and refuses what it does not act on, by the field's name."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    neutral: ClassVar[Mapping[str, Neutral]] = {}
    acted_on: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        cls.acted_on = frozenset(field.alias or name for name, field in cls.model_fields.items())

    @model_validator(mode="before")
    @classmethod
    def _only_fields_acted_on(cls, body: Any) -> Any:
        if not isinstance(body, dict):
            return body
        kept = {}
        for name, value in body.items():
            if name in cls.acted_on:
                if value is not None:
                    kept[name] = value
            elif name in cls.neutral:
                if value is not None and not cls.neutral[name].accepts(value):
                    raise _unsupported(name, cls.neutral[name].refusal(name))
            else:
                raise _unsupported(name, cls._unknown(name[:64]))
        return kept

    @classmethod
    def labels(cls, body: object) -> dict[str, str]:
        """The labels of a body that was parsed: what the client tells itself by, a user for example."""
        fields = body if isinstance(body, dict) else {}
        return {
            name: value
            for name, value in fields.items()
            if isinstance(value, str) and isinstance(cls.neutral.get(name), Label)
        }

    @classmethod
    def _unknown(cls, name: str) -> str:
        """The message for a field that is in no list."""
        close = difflib.get_close_matches(name.lower(), sorted(cls.acted_on), n=1, cutoff=_ALIKE)
        advice = f"did you mean {close[0]}?" if close else "leave it out"
        return f"{name} is not a field that this server knows; {advice}"

    @classmethod
    def parse(cls, body: object) -> Self:
        """Validate a decoded JSON body.

        Raises:
            UnsupportedField: a field asks for something that this server does not do, or is unknown.
            InvalidRequest: a field is missing, of the wrong type or out of range; `param` is its path.
        """
        if not isinstance(body, dict):
            raise InvalidRequest("the request body must be a JSON object")
        try:
            return cls.model_validate(body)
        except ValidationError as error:
            raise _first_problem(error) from None


def unsupported_value(message: str) -> PydanticCustomError:
    """What a validator raises for a value that is meant well but not acted on."""
    return PydanticCustomError(UNSUPPORTED, "{message}", {"message": message})


def refused_field(field: str, reason: str) -> PydanticCustomError:
    """What a model's validator raises where the value of `field` does not fit another's."""
    return PydanticCustomError("value_error", "{reason}", {"reason": reason, "field": field})


def _unsupported(name: str, message: str) -> PydanticCustomError:
    return PydanticCustomError(UNSUPPORTED, "{message}", {"message": message, "field": name[:64]})


def _first_problem(error: ValidationError) -> InvalidRequest:
    problem = error.errors(include_url=False, include_input=False)[0]
    location: tuple[int | str, ...] = problem["loc"]
    context = problem.get("ctx", {})
    if "field" in context:
        location = (*location, context["field"])
    param = field_path(location)
    if problem["type"] == UNSUPPORTED:
        return UnsupportedField(problem["msg"], param=param)
    reason = _MISSING_NAMES.get(problem["type"]) or problem["msg"].removeprefix("Value error, ")
    return InvalidRequest(f"{param}: {reason}", param=param)


def field_path(location: tuple[int | str, ...]) -> str:
    """`("messages", 0, "content")` as `messages[0].content`."""
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
