"""What OpenAPI is told of routes that read their bodies themselves, within the limits."""

from collections.abc import Mapping
from typing import Any

from server.api.protocol.strict_fields import StrictFields

JSON = "application/json"


def takes(
    body: type[StrictFields] | dict[str, Any],
    *,
    examples: Mapping[str, Any] | None = None,
    example: Any = None,
    beside: Mapping[str, dict[str, Any]] | None = None,
    answer: Any = None,
    failure: Any = None,
) -> dict[str, Any]:
    """The arguments of a route's decorator.

    `body` is the JSON body or its schema, with one `example` or several `examples` by what they show. `beside` has the
    OpenAPI of other content types by their names. `answer` is what a success answers, `failure` any other status.
    """
    content: dict[str, Any] = {"schema": _self_contained(body if isinstance(body, dict) else body.model_json_schema())}
    if examples is not None:
        content["examples"] = {summary: {"value": value} for summary, value in examples.items()}
    if example is not None:
        content["example"] = example
    described: dict[str, Any] = {
        "openapi_extra": {"requestBody": {"required": True, "content": {JSON: content, **(beside or {})}}}
    }
    models = {200: answer, "default": failure}
    responses = {status: {"model": model} for status, model in models.items() if model is not None}
    return described | ({"responses": responses} if responses else {})


def _self_contained(schema: dict[str, Any]) -> dict[str, Any]:
    """A schema with its definitions in the place of the references to them.

    In an OpenAPI document a reference is looked up from the document's root, where a body's `$defs` are not. No
    definition may refer to itself.
    """
    definitions = schema.get("$defs", {})

    def inlined(part: Any) -> Any:
        if isinstance(part, list):
            return [inlined(item) for item in part]
        if not isinstance(part, dict):
            return part
        rest = {key: inlined(value) for key, value in part.items() if key not in ("$ref", "$defs")}
        if isinstance(reference := part.get("$ref"), str):
            return inlined(definitions[reference.removeprefix("#/$defs/")]) | rest
        return rest

    whole: dict[str, Any] = inlined(schema)
    return whole
