"""`/v1/completions` and `/v1/chat/completions`."""

from collections.abc import Sequence

from fastapi import APIRouter, Request, Response

from server.api.constraints.constraining import Constraining
from server.api.context import RequestContext
from server.api.formats.chat_format import ChatFormat
from server.api.formats.chunks import Details
from server.api.formats.completion_format import CompletionFormat
from server.api.generation.choice_text import EncodedPrompt
from server.api.generation.generation_endpoint import GenerationEndpoint
from server.api.generation.prompt_limits import check_encoded, check_token_ids
from server.api.protocol.answers import ChatCompletion, Completion, ErrorAnswer
from server.api.protocol.chat_request import EXAMPLES as CHAT_EXAMPLES
from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.completion_request import DEFAULT_MAX_TOKENS, CompletionRequest
from server.api.protocol.completion_request import EXAMPLES as COMPLETION_EXAMPLES
from server.api.protocol.generation_request import GenerationRequest
from server.api.routes.documented import takes
from server.api.text.tokenization import Tokenization
from server.engine.messages import ModelInfo

router = APIRouter(tags=["generation"])


async def _encoded_prompts(
    asked: CompletionRequest, _: Constraining, tokenization: Tokenization, info: ModelInfo
) -> Sequence[EncodedPrompt]:
    params = ["prompt"] if len(asked.prompt) == 1 else [f"prompt[{place}]" for place in range(len(asked.prompt))]
    texts = [prompt for prompt in asked.prompt if isinstance(prompt, str)]
    for param, prompt in zip(params, asked.prompt, strict=True):
        if isinstance(prompt, str):
            tokenization.check_fits(prompt, info.max_model_len, param)
        else:
            check_token_ids(prompt, info, param)
    encoded = iter(await tokenization.encode_prompts(texts, add_special_tokens=asked.add_special_tokens))
    prompts = []
    for param, prompt in zip(params, asked.prompt, strict=True):
        if isinstance(prompt, str):
            ids = next(encoded)
            check_encoded(ids, info, param)
            prompts.append(EncodedPrompt(ids, prompt))
        else:
            prompts.append(EncodedPrompt(prompt))
    return prompts


async def _encoded_chat(
    asked: ChatRequest, constraining: Constraining, tokenization: Tokenization, info: ModelInfo
) -> Sequence[EncodedPrompt]:
    ids = await tokenization.encode_chat(
        [message.as_template_input() for message in asked.messages],
        tools=constraining.tools,
        add_generation_prompt=asked.add_generation_prompt,
        continue_final_message=asked.continue_final_message,
        add_special_tokens=asked.add_special_tokens,
        most_tokens=info.max_model_len,
    )
    check_encoded(ids, info, "messages")
    return [EncodedPrompt(ids)]


def _details(asked: GenerationRequest) -> Details:
    return Details(
        include_usage=asked.include_usage,
        continuous_usage=asked.continuous_usage,
        logprobs=asked.shown_logprobs,
        prompt_logprobs=asked.prompt_logprobs,
        token_ids=asked.return_token_ids,
        tokens_as_ids=asked.return_tokens_as_token_ids,
    )


_COMPLETIONS = GenerationEndpoint(
    CompletionRequest,
    lambda asked, _: CompletionFormat(asked.routed_name, _details(asked)),
    _encoded_prompts,
    DEFAULT_MAX_TOKENS,
)
_CHAT = GenerationEndpoint(
    ChatRequest, lambda asked, _: ChatFormat(asked.routed_name, _details(asked)), _encoded_chat, None
)


@router.post(
    "/v1/completions",
    **takes(CompletionRequest, examples=COMPLETION_EXAMPLES, answer=Completion, failure=ErrorAnswer),
)
async def create_completion(request: Request, context: RequestContext) -> Response:
    """Continue a prompt, or several."""
    return await _COMPLETIONS.answer(request, context)


@router.post(
    "/v1/chat/completions",
    **takes(ChatRequest, examples=CHAT_EXAMPLES, answer=ChatCompletion, failure=ErrorAnswer),
)
async def create_chat_completion(request: Request, context: RequestContext) -> Response:
    """Answer a conversation."""
    return await _CHAT.answer(request, context)
