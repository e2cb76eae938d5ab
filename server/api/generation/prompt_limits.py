"""What a prompt may hold, and how much room it leaves for an answer."""

from collections.abc import Iterable, Sequence
from typing import Final

from server.api.protocol.generation_request import GenerationRequest
from server.engine.messages import ModelInfo
from server.errors import ContextLengthExceeded, InvalidRequest

MAX_PROMPT_SCORES: Final = 200_000
"""Scores of prompt tokens in one answer, about 20 MB of JSON."""


def check_token_ids(ids: Sequence[int], info: ModelInfo, param: str) -> None:
    """Raises InvalidRequest where an id is not in the base model's vocabulary."""
    if not ids or (min(ids) >= 0 and max(ids) < info.vocab_size):
        return
    for index, token_id in enumerate(ids):
        if not 0 <= token_id < info.vocab_size:
            raise InvalidRequest(
                f"{param}[{index}] is {token_id}; the base model's token ids go from 0 to {info.vocab_size - 1}",
                param=f"{param}[{index}]",
            )


def check_encoded(ids: Sequence[int], info: ModelInfo, param: str) -> None:
    """Raises InvalidRequest where the text of `param` became no token, or one that only the tokenizer has."""
    if not ids:
        raise InvalidRequest("the prompt is empty: it must have at least one token", param=param)
    largest = max(ids)
    if largest >= info.vocab_size:
        raise InvalidRequest(
            f"{param} holds the text of token {largest}, which the base model does not have: its token ids go from 0 "
            f"to {info.vocab_size - 1}; leave that text out",
            param=param,
        )


def check_tokens_named(asked: GenerationRequest, info: ModelInfo) -> None:
    """Raises InvalidRequest where the request names a token that the base model does not have."""
    check_token_ids(asked.stop_token_ids, info, "stop_token_ids")
    if asked.logit_bias and max(asked.logit_bias) >= info.vocab_size:
        raise InvalidRequest(
            f"logit_bias names token {max(asked.logit_bias)}; the base model's token ids go from 0 to "
            f"{info.vocab_size - 1}",
            param="logit_bias",
        )


def check_prompt_scores(asked: GenerationRequest, lengths: Iterable[int], likeliest: int | None) -> None:
    """Raises InvalidRequest where the answer would hold more scores of prompt tokens than one answer may.

    `lengths` are those of the prompts in tokens; beside each token stand so many of the `likeliest`, None: no scores.
    """
    if likeliest is None:
        return
    count = sum(lengths) * (likeliest + 1) * asked.prompt_copies
    if count > MAX_PROMPT_SCORES:
        field = asked.prompt_scores_field
        raise InvalidRequest(
            f"{field}: the answer would hold {count} scores of prompt tokens (each token and {likeliest} of the "
            f"likeliest, for every choice that shows them), but at most {MAX_PROMPT_SCORES} are given at once; ask for "
            "fewer of the likeliest, or send the prompts and choices in several requests",
            param=field,
        )


def token_limit(request: GenerationRequest, default: int | None, prompt: int, info: ModelInfo) -> int:
    """How many tokens to generate at most after a prompt of `prompt` tokens.

    What the client asked for must fit; a default (None: as much as there is) is cut to what fits.

    Raises:
        ContextLengthExceeded: it does not fit, or the prompt leaves no room for one token.
    """
    room = info.max_model_len - prompt
    asked = request.token_limit
    if room < (1 if asked is None else min(1, asked)):
        raise ContextLengthExceeded(
            f"the prompt has {prompt} tokens, but the context of {info.name} holds {info.max_model_len}, the answer "
            "included; shorten it",
            param=request.prompt_field,
        )
    if asked is None:
        return room if default is None else min(default, room)
    if asked > room:
        raise ContextLengthExceeded(
            f"the prompt has {prompt} tokens and {asked} more were asked for, {prompt + asked} together, but the "
            f"context of {info.name} holds {info.max_model_len}; ask for at most {room}",
            param=request.limit_field,
        )
    return asked
