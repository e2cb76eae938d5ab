"""`/v1/completions` and `/v1/chat/completions`."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from fastapi import APIRouter, Request, Response

from adapters_store.quoting import quoted
from server.api.chat_format import ChatFormat
from server.api.choice_text import EncodedPrompt
from server.api.chunks import Details
from server.api.completion_format import CompletionFormat
from server.api.constraining import Constraining, constraint_of
from server.api.context import Context, RequestContext
from server.api.order import Order
from server.api.planning import plans_of
from server.api.prompt_limits import check_encoded, check_token_ids
from server.api.protocol.answers import ChatCompletion, Completion, ErrorAnswer
from server.api.protocol.chat_request import EXAMPLES as CHAT_EXAMPLES
from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.completion_request import DEFAULT_MAX_TOKENS, CompletionRequest
from server.api.protocol.completion_request import EXAMPLES as COMPLETION_EXAMPLES
from server.api.protocol.generation_request import GenerationRequest
from server.api.request_body import read_json
from server.api.request_id import request_id
from server.api.submission import entered, submit
from server.api.tokenization import Tokenization
from server.engine.messages import ModelInfo
from server.errors import SwitchyardError

logger = logging.getLogger(__name__)
router = APIRouter(tags=["generation"])

RequestT = TypeVar("RequestT", bound=GenerationRequest)


@dataclass(frozen=True)
class _Endpoint(Generic[RequestT]):
    """What tells the two endpoints apart. `default_limit` None: as many tokens as the context holds."""

    request_type: type[RequestT]
    answer_format: type[CompletionFormat] | type[ChatFormat]
    encode: Callable[[RequestT, Constraining, Tokenization, ModelInfo], Awaitable[Sequence[EncodedPrompt]]]
    choice_count: Callable[[RequestT], int]
    default_limit: int | None


async def _encoded_prompts(
    asked: CompletionRequest,
    _: Constraining,
    tokenization: Tokenization,
    info: ModelInfo,
) -> Sequence[EncodedPrompt]:
    prompts = []
    for place, prompt in enumerate(asked.prompt):
        param = "prompt" if len(asked.prompt) == 1 else f"prompt[{place}]"
        if isinstance(prompt, str):
            ids = await tokenization.encode_prompt(prompt, add_special_tokens=asked.add_special_tokens)
            check_encoded(ids, info, param)
            prompts.append(EncodedPrompt(ids, prompt))
        else:
            check_token_ids(prompt, info, param)
            prompts.append(EncodedPrompt(prompt))
    return prompts


async def _encoded_chat(
    asked: ChatRequest,
    constraining: Constraining,
    tokenization: Tokenization,
    info: ModelInfo,
) -> Sequence[EncodedPrompt]:
    ids = await tokenization.encode_chat(
        [message.as_template_input() for message in asked.messages],
        tools=constraining.tools,
        add_generation_prompt=asked.add_generation_prompt,
        continue_final_message=asked.continue_final_message,
        add_special_tokens=asked.add_special_tokens,
    )
    check_encoded(ids, info, "messages")
    return [EncodedPrompt(ids)]


_COMPLETIONS = _Endpoint(
    CompletionRequest,
    CompletionFormat,
    _encoded_prompts,
    lambda asked: len(asked.prompt) * asked.n,
    DEFAULT_MAX_TOKENS,
)
_CHAT = _Endpoint(ChatRequest, ChatFormat, _encoded_chat, lambda asked: asked.n, None)


def _documented(
    request: type[GenerationRequest], answer: type[Any], examples: Mapping[str, dict[str, Any]]
) -> dict[str, Any]:
    """What OpenAPI is told of a route that reads its body itself, within the limits."""
    content = {
        "schema": request.model_json_schema(),
        "examples": {summary: {"value": value} for summary, value in examples.items()},
    }
    return {
        "openapi_extra": {"requestBody": {"required": True, "content": {"application/json": content}}},
        "responses": {200: {"model": answer}, "default": {"model": ErrorAnswer}},
    }


@router.post("/v1/completions", **_documented(CompletionRequest, Completion, COMPLETION_EXAMPLES))
async def create_completion(request: Request, context: RequestContext) -> Response:
    """Continue a prompt, or several."""
    return await _generate(_COMPLETIONS, request, context)


@router.post("/v1/chat/completions", **_documented(ChatRequest, ChatCompletion, CHAT_EXAMPLES))
async def create_chat_completion(request: Request, context: RequestContext) -> Response:
    """Answer a conversation."""
    return await _generate(_CHAT, request, context)


async def _generate(endpoint: _Endpoint[RequestT], request: Request, context: Context) -> Response:
    name = "unread"
    try:
        model = context.ready_model()
        body = await read_json(request, context.settings.max_body_bytes)
        asked = endpoint.request_type.parse(body)
        name = quoted(asked.routed_name)
        routing = await model.router.route(asked.routed_name, asked.labels(body))
        with entered(model.admission, endpoint.choice_count(asked)) as places:
            constraining = await constraint_of(asked, model)
            plans = await plans_of(
                model,
                asked,
                routing.targets,
                lambda tokenization: endpoint.encode(asked, constraining, tokenization, model.info),
                default_limit=endpoint.default_limit,
                grammar=constraining.grammar,
            )
            order = Order(
                model=asked.routed_name,
                routing=routing,
                plans=plans,
                fallback=asked.fallback or context.settings.fallback,
                n=asked.n,
                reader=constraining.reader,
            )
            answer = endpoint.answer_format(order.model, _details(asked))
            return submit(context, model, order, answer=answer, stream=asked.stream, places=places)
    except SwitchyardError as error:
        context.metrics.requests.refused.labels(error.code).inc()
        logger.debug("request %s: refused: model %s, %d %s", request_id.get(), name, error.status, error.code)
        raise


def _details(asked: GenerationRequest) -> Details:
    return Details(
        include_usage=asked.include_usage,
        continuous_usage=asked.continuous_usage,
        logprobs=asked.shown_logprobs,
        prompt_logprobs=asked.prompt_logprobs,
        token_ids=asked.return_token_ids,
        tokens_as_ids=asked.return_tokens_as_token_ids,
    )
