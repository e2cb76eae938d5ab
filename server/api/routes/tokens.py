"""`/tokenize` and `/detokenize`: what a request's text is in tokens, in vLLM's form."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response
from tokenizers import Tokenizer

from server.api.context import RequestContext
from server.api.generation.prompt_limits import check_token_ids
from server.api.json_response import json_response
from server.api.protocol.tokenize_requests import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
)
from server.api.request_body import read_json
from server.api.routes.documented import takes
from server.api.text.tokenization import Tokenization
from server.errors import InvalidRequest

# The most ids to make text of, in contexts: more than any answer holds, little enough to be done at once.
_MOST_CONTEXTS = 4

router = APIRouter(tags=["tokens"])


@router.post(
    "/tokenize", **takes(TokenizeRequest, answer=TokenizeAnswer, example={"prompt": "Hello", "return_token_strs": True})
)
async def tokenize(request: Request, context: RequestContext) -> Response:
    """The token ids of a text or a conversation, by the tokenizer of the base or of an adapter."""
    model = context.served_model()
    asked = TokenizeRequest.parse(await read_json(request, context.settings.max_body_bytes))
    place = context.tokenizings.enter()
    try:
        tokenization = (await model.promptings.of(await model.names.resolve(asked.model))).tokenization
        ids = await _encoded(asked, tokenization, model.info.max_model_len)
        shown = asked.return_token_strs
        spelt = await tokenization.threads.run_if_heavy(_spelt, tokenization.tokenizer, ids) if shown else None
    finally:
        place.leave()
    return json_response(
        {"count": len(ids), "max_model_len": model.info.max_model_len, "tokens": ids, "token_strs": spelt}
    )


@router.post("/detokenize", **takes(DetokenizeRequest, answer=DetokenizeAnswer, example={"tokens": [1, 2, 3]}))
async def detokenize(request: Request, context: RequestContext) -> Response:
    """The text of token ids, special tokens included."""
    model = context.served_model()
    asked = DetokenizeRequest.parse(await read_json(request, context.settings.max_body_bytes))
    most = _MOST_CONTEXTS * model.info.max_model_len
    if len(asked.tokens) > most:
        raise InvalidRequest(
            f"tokens holds {len(asked.tokens)} ids; at most {most} are taken at once: send them in parts",
            param="tokens",
        )
    check_token_ids(asked.tokens, model.info, "tokens")
    place = context.tokenizings.enter()
    try:
        tokenization = (await model.promptings.of(await model.names.resolve(asked.model))).tokenization
        text = await tokenization.threads.run(tokenization.tokenizer.decode, asked.tokens, skip_special_tokens=False)
    finally:
        place.leave()
    return json_response({"prompt": text})


def _spelt(tokenizer: Tokenizer, ids: Sequence[int]) -> list[str | None]:
    return [tokenizer.id_to_token(token_id) for token_id in ids]


async def _encoded(asked: TokenizeRequest, tokenization: Tokenization, most_tokens: int) -> list[int]:
    if asked.messages is None:
        assert asked.prompt is not None
        tokenization.check_fits(asked.prompt, most_tokens, "prompt")
        special = asked.add_special_tokens is not False
        return await tokenization.encode_prompt(asked.prompt, add_special_tokens=special)
    return await tokenization.encode_chat(
        [message.as_template_input() for message in asked.messages],
        tools=asked.tools or None,
        add_generation_prompt=asked.add_generation_prompt,
        continue_final_message=asked.continue_final_message,
        add_special_tokens=asked.add_special_tokens is True,
        most_tokens=most_tokens,
    )
