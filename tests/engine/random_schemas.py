"""Random JSON schemas whose every instance is short enough to be written out by a model that writes at random."""

import random
from typing import Any

Schema = dict[str, Any]

_WORDS = ("red", "grün", "two words", 'a "quote"', "back\\slash", "", "東京", "null", "7")
_PATTERNS = ("^[A-Z]{2}[0-9]{3}$", "^(yes|no|perhaps)$", "^[a-f0-9]{4}(-[a-f0-9]{2}){0,2}$", "^x+y?$")


def random_schema(rng: random.Random, depth: int = 3) -> Schema:
    """An object's schema with properties of every kind, optional ones, nesting, alternatives and references."""
    definitions = {f"d{index}": _value(rng, 1, ()) for index in range(rng.randrange(3))}
    schema = _object(rng, depth, tuple(definitions))
    return {**schema, "$defs": definitions} if definitions else schema


def _value(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    kinds = [_integer, _number, _string, _pattern, _enum, _constant, _simple]
    if rng.random() < 0.6 or depth == 0:
        return rng.choice(kinds)(rng)
    if definitions and rng.random() < 0.3:
        return {"$ref": f"#/$defs/{rng.choice(definitions)}"}
    return rng.choice((_object, _array, _tuple, _alternatives))(rng, depth - 1, definitions)


def _object(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    names = rng.sample(["name", "größe", "a b", "id", "x_1", 'q"'], rng.randrange(1, 5))
    return {
        "type": "object",
        "properties": {name: _value(rng, depth, definitions) for name in names},
        "required": [name for name in names if rng.random() < 0.6],
        "additionalProperties": False,
    }


def _array(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    least = rng.randrange(3)
    return {
        "type": "array",
        "items": _value(rng, depth, definitions),
        "minItems": least,
        "maxItems": least + rng.randrange(3),
    }


def _tuple(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    items = [_value(rng, depth, definitions) for _ in range(rng.randrange(1, 4))]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items), "maxItems": len(items)}


def _alternatives(rng: random.Random, depth: int, definitions: tuple[str, ...]) -> Schema:
    return {"anyOf": [_value(rng, depth, definitions) for _ in range(rng.randrange(2, 4))]}


def _integer(rng: random.Random) -> Schema:
    least = rng.randrange(-1000, 1000)
    return {"type": "integer", "minimum": least, "maximum": least + rng.randrange(500)}


def _number(rng: random.Random) -> Schema:
    least = rng.randrange(-50, 50)
    return {"type": "number", "multipleOf": 1, "minimum": least, "exclusiveMaximum": least + rng.randrange(1, 20)}


def _string(rng: random.Random) -> Schema:
    least = rng.randrange(4)
    return {"type": "string", "minLength": least, "maxLength": least + rng.randrange(8)}


def _pattern(rng: random.Random) -> Schema:
    pattern = rng.choice(_PATTERNS)
    return (
        {"type": "string", "pattern": pattern, "maxLength": 12}
        if "+" in pattern
        else {
            "type": "string",
            "pattern": pattern,
        }
    )


def _enum(rng: random.Random) -> Schema:
    return {"enum": [*rng.sample(_WORDS, rng.randrange(1, 5)), *rng.sample([1, None, True, -2.5], rng.randrange(3))]}


def _constant(rng: random.Random) -> Schema:
    return {"const": rng.choice([*_WORDS, 0, False, None, [1, "a"]])}


def _simple(rng: random.Random) -> Schema:
    return {"type": rng.choice(["boolean", "null", ["boolean", "null"]])}
