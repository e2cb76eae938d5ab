"""`/v1/completions` and `/v1/chat/completions`."""

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import APIRouter, Request, Response

from adapters_store.quoting import quoted
from server.api.answer_format import ChatFormat, CompletionFormat
from server.api.context import Context, RequestContext, ServedModel
from server.api.protocol.answers import ChatCompletion, Completion, ErrorAnswer
from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.completion_request import DEFAULT_MAX_TOKENS, CompletionRequest
from server.api.protocol.generation_request import GenerationRequest
from server.api.request_body import read_json
from server.api.request_id import request_id
from server.api.submission import check_encoded, check_token_ids, submit
from server.errors import SwitchyardError

logger = logging.getLogger(__name__)
router = APIRouter(tags=["generation"])

RequestT = TypeVar("RequestT", bound=GenerationRequest)


@dataclass(frozen=True)
class _Endpoint(Generic[RequestT]):
    """What tells the two endpoints apart. `default_limit` None: as many tokens as the context holds."""

    request_type: type[RequestT]
    answer_format: type[CompletionFormat] | type[ChatFormat]
    prompt_ids: Callable[[ServedModel, RequestT], Awaitable[list[int]]]
    default_limit: int | None


async def _prompt_ids(model: ServedModel, asked: CompletionRequest) -> list[int]:
    if not isinstance(asked.prompt, str):
        check_token_ids(asked.prompt, model.info, "prompt")
        return asked.prompt
    ids = await model.tokenization.encode_prompt(asked.prompt)
    check_encoded(ids, model.info, "prompt")
    return ids


async def _chat_ids(model: ServedModel, asked: ChatRequest) -> list[int]:
    ids = await model.tokenization.encode_chat([message.as_template_input() for message in asked.messages])
    check_encoded(ids, model.info, "messages")
    return ids


_COMPLETIONS = _Endpoint(CompletionRequest, CompletionFormat, _prompt_ids, DEFAULT_MAX_TOKENS)
_CHAT = _Endpoint(ChatRequest, ChatFormat, _chat_ids, None)


def _documented(request: type[GenerationRequest], answer: type[Any]) -> dict[str, Any]:
    """What OpenAPI is told of a route that reads its body itself, within the limits."""
    schema = request.model_json_schema()
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}},
        "responses": {200: {"model": answer}, "default": {"model": ErrorAnswer}},
    }


@router.post("/v1/completions", **_documented(CompletionRequest, Completion))
async def create_completion(request: Request, context: RequestContext) -> Response:
    """Continue a prompt."""
    return await _generate(_COMPLETIONS, request, context)


@router.post("/v1/chat/completions", **_documented(ChatRequest, ChatCompletion))
async def create_chat_completion(request: Request, context: RequestContext) -> Response:
    """Answer a conversation."""
    return await _generate(_CHAT, request, context)


async def _generate(endpoint: _Endpoint[RequestT], request: Request, context: Context) -> Response:
    name = "unread"
    try:
        model = context.ready_model()
        asked = endpoint.request_type.parse(await read_json(request, context.settings.max_body_bytes))
        name = quoted(asked.model)
        target = await model.names.resolve(asked.model)
        place = model.admission.enter()
        try:
            prompt = await endpoint.prompt_ids(model, asked)
            answer = endpoint.answer_format(asked.model, include_usage=asked.include_usage)
            return submit(
                context,
                model,
                asked,
                target=target,
                prompt=prompt,
                default_limit=endpoint.default_limit,
                answer=answer,
                place=place,
            )
        except BaseException:
            place.leave()
            raise
    except SwitchyardError as error:
        context.metrics.requests.refused.labels(error.code).inc()
        logger.debug("request %s: refused: model %s, %d %s", request_id.get(), name, error.status, error.code)
        raise
