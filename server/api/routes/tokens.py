"""`/tokenize` and `/detokenize`: what a request's text is in tokens, in vLLM's form."""

import asyncio

from fastapi import APIRouter, Request, Response

from server.api.context import RequestContext
from server.api.generation.prompt_limits import check_token_ids
from server.api.generation.prompting import Prompting
from server.api.json_response import json_response
from server.api.protocol.tokenize_requests import (
    DetokenizeAnswer,
    DetokenizeRequest,
    TokenizeAnswer,
    TokenizeRequest,
)
from server.api.request_body import read_json
from server.api.routes.documented import takes

router = APIRouter(tags=["tokens"])


@router.post(
    "/tokenize", **takes(TokenizeRequest, answer=TokenizeAnswer, example={"prompt": "Hello", "return_token_strs": True})
)
async def tokenize(request: Request, context: RequestContext) -> Response:
    """The token ids of a text or a conversation, by the tokenizer of the base or of an adapter."""
    model = context.served_model()
    asked = TokenizeRequest.parse(await read_json(request, context.settings.max_body_bytes))
    prompting = await model.promptings.of(await model.names.resolve(asked.model))
    ids = await _encoded(asked, prompting)
    tokenizer = prompting.tokenization.tokenizer
    return json_response(
        {
            "count": len(ids),
            "max_model_len": model.info.max_model_len,
            "tokens": ids,
            "token_strs": [tokenizer.id_to_token(token_id) for token_id in ids] if asked.return_token_strs else None,
        }
    )


@router.post("/detokenize", **takes(DetokenizeRequest, answer=DetokenizeAnswer, example={"tokens": [1, 2, 3]}))
async def detokenize(request: Request, context: RequestContext) -> Response:
    """The text of token ids, special tokens included."""
    model = context.served_model()
    asked = DetokenizeRequest.parse(await read_json(request, context.settings.max_body_bytes))
    check_token_ids(asked.tokens, model.info, "tokens")
    prompting = await model.promptings.of(await model.names.resolve(asked.model))
    tokenizer = prompting.tokenization.tokenizer
    text = await asyncio.to_thread(tokenizer.decode, asked.tokens, skip_special_tokens=False)
    return json_response({"prompt": text})


async def _encoded(asked: TokenizeRequest, prompting: Prompting) -> list[int]:
    if asked.messages is None:
        assert asked.prompt is not None
        special = asked.add_special_tokens is not False
        return await prompting.tokenization.encode_prompt(asked.prompt, add_special_tokens=special)
    return await prompting.tokenization.encode_chat(
        [message.as_template_input() for message in asked.messages],
        tools=asked.tools or None,
        add_generation_prompt=asked.add_generation_prompt,
        continue_final_message=asked.continue_final_message,
        add_special_tokens=asked.add_special_tokens is True,
    )
