"""The base's tokenizer with the tokens that an adapter adds, or gives another text."""

import json
from collections.abc import Iterable
from typing import Any

from tokenizers import Tokenizer

from adapters_store.adapter_prompting import AddedToken
from adapters_store.errors import InvalidAdapter
from adapters_store.quoting import quoted


def with_added_tokens(base: Tokenizer, tokens: Iterable[AddedToken], embedding_rows: int) -> Tokenizer:
    """A tokenizer that differs from `base` in `tokens` alone; `base` itself where it has them all. Takes seconds.

    Raises:
        InvalidAdapter: the base has no embedding row for a token, or has its id or text for an ordinary token.
    """
    described = json.loads(base.to_str())
    known = {(token["id"], token["content"]): token for token in described["added_tokens"]}
    own = [token for token in tokens if known.get((token.id, token.content)) != _fields(token)]
    if not own:
        return base
    for token in own:
        if token.id >= embedding_rows:
            raise _refused(token, f"the base's ids end at {embedding_rows - 1}")
        _add(described, token)
    described["added_tokens"].sort(key=lambda token: token["id"])
    tokenizer: Tokenizer = Tokenizer.from_str(json.dumps(described))
    for token in own:
        if tokenizer.token_to_id(token.content) != token.id or tokenizer.id_to_token(token.id) != token.content:
            raise _refused(token, "the base's tokenizer gives it another id")
    return tokenizer


def _add(described: dict[str, Any], token: AddedToken) -> None:
    """Put a token into the vocabulary as well: the library numbers other added tokens itself."""
    replaced = {old["content"] for old in described["added_tokens"] if token.id == old["id"]}
    replaced |= {old["content"] for old in described["added_tokens"] if token.content == old["content"]}
    described["added_tokens"] = [old for old in described["added_tokens"] if old["content"] not in replaced]
    described["added_tokens"].append(_fields(token))
    vocabulary = described["model"]["vocab"]
    if isinstance(vocabulary, dict):
        for content in replaced:
            vocabulary.pop(content, None)
        if token.content in vocabulary or token.id in vocabulary.values():
            raise _refused(token, "the base has its text or id for an ordinary token")
        vocabulary[token.content] = token.id
    elif token.id < len(vocabulary) and vocabulary[token.id][0] in replaced:
        vocabulary[token.id][0] = token.content
    elif token.id == len(vocabulary):
        vocabulary.append([token.content, 0.0])


def _fields(token: AddedToken) -> dict[str, Any]:
    return {name: getattr(token, name) for name in token.__struct_fields__}


def _refused(token: AddedToken, reason: str) -> InvalidAdapter:
    return InvalidAdapter(
        f"the adapter adds the token {quoted(token.content)} as id {token.id}, which cannot be served: {reason}; "
        "publish it again, to learn more",
        param="model",
    )
