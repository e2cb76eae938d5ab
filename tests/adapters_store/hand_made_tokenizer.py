"""Tokenizer files written by hand, as a base has them and as trainers leave them beside an adapter."""

import json
from pathlib import Path
from typing import Any

VOCABULARY = {"a": 0, "b": 1, "ab": 2}
MERGES = [["a", "b"]]
TEMPLATE = "{% for message in messages %}{{ message['content'] }}{% endfor %}"
EMBEDDING_ROWS = 10


def token(token_id: int, content: str, **flags: bool) -> dict[str, Any]:
    """An added token as `tokenizer.json` has it, special unless flags say otherwise."""
    known = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": token_id, "content": content, **known, **flags}


BASE_TOKENS = [token(3, "<s>"), token(4, "</s>"), token(5, "<reserved>")]


def write_json(directory: Path, name: str, value: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(json.dumps(value))


def write_tokenizer(
    directory: Path,
    *,
    added_tokens: list[dict[str, Any]] | None = None,
    vocabulary: dict[str, int] | None = None,
    merges: list[Any] | None = None,
    template: str | None = TEMPLATE,
    **config: Any,
) -> Path:
    """The base's tokenizer, but for what is given."""
    model = {
        "type": "BPE",
        "vocab": VOCABULARY if vocabulary is None else vocabulary,
        "merges": MERGES if merges is None else merges,
    }
    tokens = BASE_TOKENS if added_tokens is None else added_tokens
    write_json(directory, "tokenizer.json", {"version": "1.0", "added_tokens": tokens, "model": model})
    write_json(directory, "tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", **config})
    if template is not None:
        (directory / "chat_template.jinja").write_text(template)
    return directory
