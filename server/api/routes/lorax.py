"""`/generate`, `/generate_stream` and `/`, as clients of LoRAX and TGI ask them."""

from collections.abc import Sequence

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
from server.api.routes.documented import takes
from server.api.text.tokenization import Tokenization
from server.engine.messages import ModelInfo

router = APIRouter(tags=[LORAX_TAG])


async def _encoded(
    asked: GenerateRequest, _: Constraining, tokenization: Tokenization, info: ModelInfo
) -> Sequence[EncodedPrompt]:
    if asked.truncate is None:
        tokenization.check_fits(asked.prompt, info.max_model_len, "inputs")
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


@router.post("/generate", **takes(GenerateBody, examples=EXAMPLES, answer=Generated, failure=GenerateFailure))
async def generate(request: Request, context: RequestContext) -> Response:
    """Continue a prompt (LoRAX and TGI)."""
    return await _WHOLE.answer(request, context)


@router.post("/generate_stream", **takes(GenerateBody, examples=EXAMPLES, answer=Generated, failure=GenerateFailure))
async def generate_stream(request: Request, context: RequestContext) -> Response:
    """Continue a prompt, one event a token (LoRAX and TGI)."""
    return await _STREAM.answer(request, context)


@router.post("/", **takes(GenerateBody, examples=EXAMPLES, answer=list[Generated], failure=GenerateFailure))
async def generate_either(request: Request, context: RequestContext) -> Response:
    """The one or the other, by the field `stream`: what `lorax-client` asks."""
    return await _EITHER.answer(request, context)
