"""From a validated request to a running generation."""

import uuid
from collections.abc import Sequence

from server.api.admission import Place
from server.api.answer_format import AnswerFormat
from server.api.context import Context, ServedModel
from server.api.delivery import Delivery, GenerationResponse
from server.api.generated_text import GeneratedText
from server.api.model_names import Target
from server.api.protocol.generation_request import GenerationRequest
from server.engine.messages import ModelInfo, SamplingParams, Submit
from server.errors import ContextLengthExceeded, InvalidRequest


def check_token_ids(ids: Sequence[int], info: ModelInfo, param: str) -> None:
    """Raises InvalidRequest where an id is not in the base model's vocabulary."""
    for index, token_id in enumerate(ids):
        if not 0 <= token_id < info.vocab_size:
            raise InvalidRequest(
                f"{param}[{index}] is {token_id}; the base model's token ids go from 0 to {info.vocab_size - 1}",
                param=f"{param}[{index}]",
            )


def check_encoded(ids: Sequence[int], info: ModelInfo, param: str) -> None:
    """Raises InvalidRequest where the text of `param` became a token that only the tokenizer has."""
    largest = max(ids, default=0)
    if largest >= info.vocab_size:
        raise InvalidRequest(
            f"{param} holds the text of token {largest}, which the base model does not have: its token ids go from 0 "
            f"to {info.vocab_size - 1}; leave that text out",
            param=param,
        )


def token_limit(request: GenerationRequest, default: int | None, prompt: int, info: ModelInfo) -> int:
    """How many tokens to generate at most after a prompt of `prompt` tokens.

    What the client asked for must fit; a default (None: as much as there is) is cut to what fits.

    Raises:
        ContextLengthExceeded: it does not fit, or the prompt leaves no room for one token.
    """
    room = info.max_model_len - prompt
    if room < 1:
        raise ContextLengthExceeded(
            f"the prompt has {prompt} tokens, but the context of {info.name} holds {info.max_model_len}, the answer "
            "included; shorten it",
            param=request.prompt_field,
        )
    asked = request.token_limit
    if asked is None:
        return room if default is None else min(default, room)
    if asked > room:
        raise ContextLengthExceeded(
            f"the prompt has {prompt} tokens and {asked} more were asked for, {prompt + asked} together, but the "
            f"context of {info.name} holds {info.max_model_len}; ask for at most {room}",
            param=request.limit_field,
        )
    return asked


def submit(
    context: Context,
    model: ServedModel,
    request: GenerationRequest,
    *,
    target: Target,
    prompt: list[int],
    default_limit: int | None,
    answer: AnswerFormat,
    place: Place,
) -> GenerationResponse:
    """Hand a request to the engine.

    Raises:
        InvalidRequest: the prompt is empty, or a token id is not in the vocabulary.
        ContextLengthExceeded: prompt and answer do not fit.
        EngineUnavailable: the engine is not ready.
    """
    if not prompt:
        raise InvalidRequest("the prompt is empty: it must have at least one token", param=request.prompt_field)
    check_token_ids(request.stop_token_ids, model.info, "stop_token_ids")
    sampling = SamplingParams(
        max_tokens=token_limit(request, default_limit, len(prompt), model.info),
        temperature=request.temperature,
        top_p=request.top_p,
        top_k=max(0, request.top_k),
        seed=request.seed,
        stop_token_ids=tuple(request.stop_token_ids),
        ignore_eos=request.ignore_eos,
    )
    command = Submit(
        request_id=uuid.uuid4().hex,
        prompt=prompt,
        sampling=sampling,
        adapter=target.as_engine_version(),
        fallback=request.fallback or context.settings.fallback,
    )
    text = GeneratedText(model.tokenization.tokenizer, prompt, request.stop)
    record = context.metrics.requests.begin(target.name, len(prompt), model.name)
    # Last, since whatever failed after it would leave the engine with a request that nobody reads.
    generation = context.engine.submit(command)
    return GenerationResponse(
        Delivery(
            generation=generation,
            model=request.model,
            target=target,
            prompt_tokens=len(prompt),
            text=text,
            format=answer,
            record=record,
            place=place,
            stream=request.stream,
            include_usage=request.include_usage,
        )
    )
