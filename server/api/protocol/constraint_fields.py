"""Fields that bind an answer to a form: OpenAI's, vLLM's newer and older ones, and SGLang's."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import msgspec
from pydantic import Field, PlainValidator, model_validator

from server.api.json_nesting import MAX_NESTING, is_nested_too_deeply
from server.api.protocol.strict_fields import Neutral, StrictFields, refused_field

MAX_CHOICE_TEXTS = 1_000

FormKind = Literal["json_schema", "json_object", "regex", "choice", "rules"]


def _schema(value: Any) -> dict[str, Any]:
    """A JSON schema, which some clients send as JSON text."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            raise ValueError("must be a JSON schema: an object, or one as text") from None
    if not isinstance(value, dict):
        raise ValueError("must be a JSON schema: an object, or one as text")
    if is_nested_too_deeply(value):
        raise ValueError(f"is nested too deeply: at most {MAX_NESTING} levels are taken")
    return value


Schema = Annotated[dict[str, Any], PlainValidator(_schema, json_schema_input_type=dict[str, Any] | str)]
Choices = Annotated[list[str], Field(min_length=1, max_length=MAX_CHOICE_TEXTS)]


class Form(NamedTuple):
    """What an answer must be: a kind of grammar, what describes it, and the field that said so."""

    kind: FormKind
    description: Any
    param: str
    lenient: bool = False


class JsonSchemaFormat(StrictFields):
    """The schema of `response_format`."""

    name: str = Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$", description="A name for the schema.")
    json_schema: Schema = Field(alias="schema", description="The schema that the answer is valid by.")
    description: str | None = Field(None, description="What the schema is for; it is not shown to the model.")
    strict: bool | None = Field(
        None, description="`false` passes over keywords that are not supported; they are refused otherwise."
    )


class ResponseFormat(StrictFields):
    """OpenAI's `response_format`; `schema` beside `json_object` is LoRAX's and TGI's way."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchemaFormat | None = Field(None, description="With the type `json_schema`.")
    object_schema: Schema | None = Field(None, alias="schema", description="With the type `json_object`.")

    @model_validator(mode="after")
    def _schema_fits_the_type(self) -> "ResponseFormat":
        if self.type == "json_schema" and self.json_schema is None:
            raise refused_field("json_schema", "is required with the type `json_schema`")
        if self.type != "json_schema" and self.json_schema is not None:
            raise refused_field("json_schema", "needs the type `json_schema`")
        if self.type != "json_object" and self.object_schema is not None:
            raise refused_field("schema", "needs the type `json_object`")
        return self

    def form(self) -> Form | None:
        """What it asks for; None for plain text."""
        if self.json_schema is not None:
            lenient = self.json_schema.strict is False
            return Form(
                "json_schema", self.json_schema.json_schema, "response_format.json_schema.schema", lenient=lenient
            )
        if self.object_schema is not None:
            return Form("json_schema", self.object_schema, "response_format.schema")
        return Form("json_object", None, "response_format") if self.type == "json_object" else None


class StructuredOutputs(StrictFields):
    """vLLM's `structured_outputs`."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        "disable_additional_properties": Neutral(False),
        "disable_any_whitespace": Neutral(False),
        "disable_fallback": Neutral(False, True),
        "structural_tag": Neutral(),
        "whitespace_pattern": Neutral(),
    }

    json_: Schema | None = Field(None, alias="json", description="A JSON schema.")
    json_object: bool = Field(False, description="Any JSON object.")
    regex: str | None = Field(None, description="A regular expression that the whole answer matches.")
    choice: Choices | None = Field(None, description="Texts of which the answer is one.")
    grammar: str | None = Field(None, description="A grammar in Lark's notation, or in GBNF.")

    @model_validator(mode="after")
    def _one_form(self) -> "StructuredOutputs":
        if len(forms := self.forms()) != 1:
            given = " and ".join(form.param.rpartition(".")[2] for form in forms) or "none of them"
            raise ValueError(f"must hold one of json, json_object, regex, choice and grammar, but holds {given}")
        return self

    def forms(self) -> list[Form]:
        """What is asked for; one only, once it is validated."""
        asked: list[tuple[FormKind, Any, str]] = [
            ("json_schema", self.json_, "json"),
            ("json_object", self.json_object or None, "json_object"),
            ("regex", self.regex, "regex"),
            ("choice", self.choice, "choice"),
            ("rules", self.grammar, "grammar"),
        ]
        return [Form(kind, value, f"structured_outputs.{name}") for kind, value, name in asked if value is not None]


class ConstraintFields(StrictFields):
    """At most one of these fields may bind the answer."""

    response_format: ResponseFormat | None = Field(
        None, description="`text`, `json_object`, or `json_schema` with a schema that the answer is valid by."
    )
    structured_outputs: StructuredOutputs | None = Field(
        None, description="vLLM's: one of `json`, `json_object`, `regex`, `choice` and `grammar`."
    )
    guided_json: Schema | None = Field(None, description="vLLM's older name of `structured_outputs.json`.")
    guided_regex: str | None = Field(None, description="vLLM's older name of `structured_outputs.regex`.")
    guided_choice: Choices | None = Field(None, description="vLLM's older name of `structured_outputs.choice`.")
    guided_grammar: str | None = Field(None, description="vLLM's older name of `structured_outputs.grammar`.")
    json_schema: Schema | None = Field(None, description="SGLang's name of `structured_outputs.json`.")
    regex: str | None = Field(None, description="SGLang's name of `structured_outputs.regex`.")
    ebnf: str | None = Field(None, description="SGLang's name of `structured_outputs.grammar`.")

    @model_validator(mode="after")
    def _at_most_one_form(self) -> "ConstraintFields":
        if len(forms := self._forms()) > 1:
            first, second = (form.param.partition(".")[0] for form in forms[:2])
            raise refused_field(second, f"may not be given together with {first}: an answer has one form")
        return self

    @property
    def form(self) -> Form | None:
        """What the answer must be; None is free text."""
        return next(iter(self._forms()), None)

    def _forms(self) -> list[Form]:
        form = self.response_format.form() if self.response_format is not None else None
        forms = [form] if form is not None else []
        if self.structured_outputs is not None:
            forms += self.structured_outputs.forms()
        fields: Mapping[str, FormKind] = {
            "guided_json": "json_schema",
            "guided_regex": "regex",
            "guided_choice": "choice",
            "guided_grammar": "rules",
            "json_schema": "json_schema",
            "regex": "regex",
            "ebnf": "rules",
        }
        given = ((kind, getattr(self, name), name) for name, kind in fields.items())
        return forms + [Form(kind, value, name) for kind, value, name in given if value is not None]
