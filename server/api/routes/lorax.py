"""`/generate`, `/generate_stream` and `/`, as clients of LoRAX and TGI ask them."""

from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response

from server.api.constraints.constraining import Constraining
from server.api.context import RequestContext
from server.api.errors import LORAX_TAG
from server.api.formats.generate_format import GenerateFormat
from server.api.generation.choice_text import EncodedPrompt
from server.api.generation.generation_endpoint import GenerationEndpoint
from server.api.generation.prompt_limits import check_encoded
from server.api.protocol.generate_answers import Generated, GenerateFailure
from server.api.protocol.generate_request import (
    EXAMPLES,
    EitherRequest,
    GenerateBody,
    GenerateRequest,
    StreamedRequest,
    WholeRequest,
)
from server.api.text.tokenization import Tokenization
from server.engine.messages import ModelInfo

router = APIRouter(tags=[LORAX_TAG])


async def _encoded(
    asked: GenerateRequest, _: Constraining, tokenization: Tokenization, info: ModelInfo
) -> Sequence[EncodedPrompt]:
    ids = await tokenization.encode_prompt(asked.prompt)
    check_encoded(ids, info, "inputs")
    if asked.truncate is not None and asked.truncate < len(ids):
        return [EncodedPrompt(ids[-asked.truncate :])]
    return [EncodedPrompt(ids, asked.prompt)]


def _format(asked: GenerateRequest, info: ModelInfo) -> GenerateFormat:
    return GenerateFormat(asked, min(info.eos_token_ids, default=0))


def _listed(asked: GenerateRequest, info: ModelInfo) -> GenerateFormat:
    return GenerateFormat(asked, min(info.eos_token_ids, default=0), in_list=True)


_WHOLE = GenerationEndpoint(WholeRequest, _format, _encoded, None)
_STREAM = GenerationEndpoint(StreamedRequest, _format, _encoded, None)
_EITHER = GenerationEndpoint(EitherRequest, _listed, _encoded, None)


def _documented(answer: Any, examples: Mapping[str, dict[str, Any]] = EXAMPLES) -> dict[str, Any]:
    content = {
        "schema": GenerateBody.model_json_schema(),
        "examples": {summary: {"value": value} for summary, value in examples.items()},
    }
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": content}}},
        "responses": {200: {"model": answer}, "default": {"model": GenerateFailure}},
    }


@router.post("/generate", **_documented(Generated))
async def generate(request: Request, context: RequestContext) -> Response:
    """Continue a prompt (LoRAX and TGI)."""
    return await _WHOLE.answer(request, context)


@router.post("/generate_stream", **_documented(Generated))
async def generate_stream(request: Request, context: RequestContext) -> Response:
    """Continue a prompt, one event a token (LoRAX and TGI)."""
    return await _STREAM.answer(request, context)


@router.post("/", **_documented(list[Generated]))
async def generate_either(request: Request, context: RequestContext) -> Response:
    """The one or the other, by the field `stream`: what `lorax-client` asks."""
    return await _EITHER.answer(request, context)
