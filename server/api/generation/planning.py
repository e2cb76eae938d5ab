"""From the fields of a completion or chat request to what each target is told."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from server.api.context import ServedModel
from server.api.generation.choice_text import EncodedPrompt, TextOptions
from server.api.generation.order import Plan, PlannedPrompt
from server.api.generation.prompt_limits import check_prompt_scores, check_tokens_named, token_limit
from server.api.generation.prompting import Prompting
from server.api.protocol.generation_request import GenerationRequest
from server.api.routing.model_names import Target
from server.api.text.tokenization import Tokenization
from server.engine.messages import ModelInfo, SamplingParams
from server.errors import InvalidRequest

Encode = Callable[[Tokenization], Awaitable[Sequence[EncodedPrompt]]]
"""Writes a request's prompts as one target's tokens."""


async def plans_of(
    model: ServedModel,
    asked: GenerationRequest,
    targets: Sequence[Target],
    encode: Encode,
    *,
    default_limit: int | None,
    grammar: str | None = None,
) -> list[Plan]:
    """A plan for each target, in order; targets of one prompting share their tokens.

    Raises:
        InvalidRequest: a prompt is empty, a token id is not in the vocabulary, the template refuses the messages, or
            more of the prompts' scores are asked for than one answer may hold.
        ContextLengthExceeded: prompt and answer do not fit.
    """
    check_tokens_named(asked, model.info)
    plans: list[Plan] = []
    known: list[tuple[Prompting, Sequence[PlannedPrompt]]] = []
    for target in targets:
        prompting = await model.promptings.of(target)
        prompts = next((prompts for other, prompts in known if other is prompting), None)
        if prompts is None:
            written = await encode(prompting.tokenization)
            check_prompt_scores(asked, (len(encoded.ids) for encoded in written), _prompt_scores(asked))
            prompts = [
                PlannedPrompt(
                    encoded, _sampling(asked, prompting, len(encoded.ids), default_limit, model.info, grammar)
                )
                for encoded in written
            ]
            known.append((prompting, prompts))
        # A form ends by itself: an adapter's habitual stop string would cut it in the middle.
        stops = prompting.stops if grammar is None else ()
        plans.append(Plan(target, prompting.tokenization, prompts, _text_options(asked, stops)))
    return plans


def _sampling(
    asked: GenerationRequest,
    prompting: Prompting,
    prompt_tokens: int,
    default_limit: int | None,
    info: ModelInfo,
    grammar: str | None,
) -> SamplingParams:
    """How tokens are chosen after one prompt; a target's own defaults stand in for what the client left out."""
    limit = token_limit(asked, default_limit, prompt_tokens, info)
    if asked.min_tokens > limit:
        raise InvalidRequest(
            f"min_tokens is {asked.min_tokens}, but at most {limit} tokens are generated; ask for fewer, or raise "
            f"{asked.limit_field}",
            param="min_tokens",
        )

    def chosen(field: str) -> float:
        return _field(asked, prompting.sampling, field)

    return SamplingParams(
        max_tokens=limit,
        temperature=chosen("temperature"),
        top_p=chosen("top_p"),
        top_k=max(0, int(chosen("top_k"))),
        min_p=chosen("min_p"),
        seed=asked.seed,
        stop_token_ids=(*asked.stop_token_ids, *(() if asked.ignore_eos else prompting.stop_token_ids)),
        ignore_eos=asked.ignore_eos,
        min_tokens=asked.min_tokens,
        presence_penalty=asked.presence_penalty,
        frequency_penalty=asked.frequency_penalty,
        repetition_penalty=chosen("repetition_penalty"),
        logit_bias=asked.logit_bias,
        grammar=grammar,
        logprobs=asked.shown_logprobs,
        prompt_logprobs=_prompt_scores(asked),
    )


def _field(asked: GenerationRequest, defaults: Mapping[str, float], field: str) -> float:
    value: float = getattr(asked, field)
    return value if field in asked.model_fields_set else defaults.get(field, value)


def _prompt_scores(asked: GenerationRequest) -> int | None:
    """How many of the likeliest tokens to score beside each of the prompt's: an echo's tokens are scored too."""
    echoed = asked.shown_logprobs if asked.echoes else None
    return max((count for count in (asked.prompt_logprobs, echoed) if count is not None), default=None)


def _text_options(asked: GenerationRequest, stops: tuple[str, ...]) -> TextOptions:
    return TextOptions(
        stops=(*asked.stop, *stops),
        include_stop=asked.include_stop_str_in_output,
        min_tokens=asked.min_tokens,
        skip_special_tokens=asked.skip_special_tokens,
        echo=asked.echoes,
        shows_tokens=asked.shown_logprobs is not None or asked.return_token_ids,
        shows_prompt=asked.prompt_logprobs is not None,
    )
