"""OpenAI's `tools`, `tool_choice` and `parallel_tool_calls`."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import Field, PlainValidator, model_validator

from server.api.protocol.strict_fields import Neutral, StrictFields, refused_field, unsupported_value

MAX_TOOLS = 128
NAME_PATTERN = r"^[a-zA-Z0-9_.-]{1,64}$"


class Function(StrictFields):
    """A function that the model may call."""

    name: str = Field(pattern=NAME_PATTERN, description="Up to 64 letters, digits, `_`, `-` and `.`.")
    description: str | None = Field(None, description="What it does; shown to the model.")
    parameters: dict[str, Any] | None = Field(
        None, description="A JSON schema of its arguments, of an object; none by default."
    )
    strict: bool | None = Field(None, description="`true` refuses keywords of the schema that are not supported.")

    @model_validator(mode="after")
    def _arguments_are_an_object(self) -> "Function":
        if self.parameters is not None and self.parameters.get("type", "object") != "object":
            raise refused_field("parameters", "must be the schema of an object")
        return self

    @property
    def arguments_schema(self) -> dict[str, Any]:
        """The schema of the arguments: an object of no properties where the client gave none."""
        if self.parameters is None:
            return {"type": "object", "properties": {}, "additionalProperties": False}
        return {"type": "object", **self.parameters}


class Tool(StrictFields):
    """One tool, of the one type there is."""

    type: Literal["function"]
    function: Function

    def as_template_input(self) -> dict[str, Any]:
        """The tool as chat templates expect it."""
        function: dict[str, Any] = {"name": self.function.name}
        if self.function.description is not None:
            function["description"] = self.function.description
        function["parameters"] = self.function.parameters or {"type": "object", "properties": {}}
        return {"type": self.type, "function": function}


class ToolChoice(NamedTuple):
    """Whether tools are called, and which may be; `names` None is any of them. `once`: one call is all there is."""

    mode: Literal["none", "auto", "required"]
    names: frozenset[str] | None = None
    once: bool = False


_CHOICE_SHAPES = 'must be "none", "auto", "required", {"type": "function", "function": {"name": ...}} or allowed_tools'


def _tool_choice(value: Any) -> ToolChoice:
    match value:
        case "none" | "auto" | "required":
            return ToolChoice(value)
        case {"type": "function"}:
            return ToolChoice("required", frozenset([_name(value)]), once=True)
        case {
            "type": "allowed_tools",
            "allowed_tools": {"mode": "auto" | "required" as mode, "tools": [*tools], **rest},
        }:
            if len(value) == 2 and not rest and 0 < len(tools) <= MAX_TOOLS:
                return ToolChoice(mode, frozenset(_name(tool) for tool in tools))
        case {"type": str(kind)} if kind != "allowed_tools":
            raise unsupported_value(f"tool_choice is of type {kind[:32]!r}; only functions are supported")
    raise ValueError(_CHOICE_SHAPES)


def _name(tool: Any) -> str:
    """The name in OpenAI's reference to a function."""
    match tool:
        case {"function": {"name": str(name)}} if tool == {"type": "function", "function": {"name": name}}:
            return name
    raise ValueError(_CHOICE_SHAPES)


Choice = Annotated[ToolChoice, PlainValidator(_tool_choice, json_schema_input_type=str | dict[str, Any])]


class ToolFields(StrictFields):
    """Fields of a chat that let the model call functions."""

    neutral: ClassVar[Mapping[str, Neutral]] = {}

    tools: list[Tool] = Field(
        default_factory=list, max_length=MAX_TOOLS, description="Functions that the model may call, up to 128."
    )
    tool_choice: Choice | None = Field(
        None, description="`none`, `auto`, `required`, a function by its name, or `allowed_tools`; `auto` with `tools`."
    )
    parallel_tool_calls: bool = Field(
        True, description="Whether one answer may hold several calls; a function chosen by its name is called once."
    )

    @model_validator(mode="after")
    def _choice_fits_the_tools(self) -> "ToolFields":
        names = [tool.function.name for tool in self.tools]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise refused_field("tools", f"holds the function {twice} twice")
        if self.tool_choice is not None:
            if not self.tools and self.tool_choice.mode == "required":
                raise refused_field("tool_choice", "needs `tools` to choose from")
            if unknown := (self.tool_choice.names or frozenset()) - set(names):
                raise refused_field("tool_choice", f"names {min(unknown)[:64]!r}, which is not in `tools`")
        return self

    @property
    def callable_tools(self) -> list[tuple[int, Function]]:
        """The functions that may be called, with their places in `tools`."""
        if self.tool_choice is not None and self.tool_choice.mode == "none":
            return []
        names = self.tool_choice.names if self.tool_choice is not None else None
        return [
            (place, tool.function)
            for place, tool in enumerate(self.tools)
            if names is None or tool.function.name in names
        ]

    @property
    def may_call_again(self) -> bool:
        """Whether a call may be followed by another."""
        return self.parallel_tool_calls and not (self.tool_choice is not None and self.tool_choice.once)

    @property
    def must_call(self) -> bool:
        """Whether the answer has to be a call."""
        return self.tool_choice is not None and self.tool_choice.mode == "required"
