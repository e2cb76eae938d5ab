"""What every endpoint that generates does with a request, from its body to the response."""

import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic
from typing import Generic, TypeVar

from fastapi import Request, Response

from adapters_store.quoting import quoted
from server.api.constraints.constraining import Constraining, constraint_of
from server.api.context import Context, ServedModel
from server.api.formats.answer_format import AnswerFormat
from server.api.generation.choice_text import EncodedPrompt
from server.api.generation.order import Order
from server.api.generation.planning import plans_of
from server.api.generation.submission import entered, submit
from server.api.protocol.generation_request import GenerationRequest
from server.api.request_body import read_json
from server.api.request_id import request_id
from server.api.routing.fallback_causes import UNRESOLVED
from server.api.routing.router import Routing
from server.api.text.tokenization import Tokenization
from server.engine.messages import ModelInfo
from server.errors import AdapterUnavailable, SwitchyardError

logger = logging.getLogger(__name__)

RequestT = TypeVar("RequestT", bound=GenerationRequest)


@dataclass(frozen=True)
class GenerationEndpoint(Generic[RequestT]):
    """What tells the endpoints apart.

    `encode` writes the prompts of a request as tokens of one target, at least one for each. `default_limit` is how
    many tokens are generated where the client names no number, None: as many as the context holds.
    """

    request_type: type[RequestT]
    answer_format: Callable[[RequestT, ModelInfo], AnswerFormat]
    encode: Callable[[RequestT, Constraining, Tokenization, ModelInfo], Awaitable[Sequence[EncodedPrompt]]]
    default_limit: int | None

    async def answer(self, request: Request, context: Context) -> Response:
        """Read a request, submit it, and return the response that will deliver it.

        Raises:
            SwitchyardError: it is refused; counted and logged here.
        """
        name = "unread"
        try:
            model = context.ready_model()
            body = await read_json(request, context.settings.max_body_bytes)
            accepted = monotonic()
            asked = self.request_type.parse(body).on_base(model.name)
            name = quoted(asked.routed_name)
            routing = await model.router.route(asked.routed_name, asked.labels(body), field=asked.routed_field)
            if asked.fallback == "error":
                routing = _without_stand_in(routing, context)
            with entered(model.admission, asked.choice_count) as places:
                order = await self._order(asked, routing, context, model, accepted)
                answer = self.answer_format(asked, model.info)
                return submit(context, model, order, answer=answer, stream=asked.stream, places=places)
        except SwitchyardError as error:
            context.metrics.requests.refused.labels(error.code).inc()
            logger.debug("request %s: refused: model %s, %d %s", request_id.get(), name, error.status, error.code)
            raise

    async def _order(
        self, asked: RequestT, routing: Routing, context: Context, model: ServedModel, accepted: float
    ) -> Order:
        first = await model.promptings.of(routing.targets[0])
        constraining = await constraint_of(asked, model.tokenization, first.tokenization)

        async def encode(tokenization: Tokenization) -> Sequence[EncodedPrompt]:
            constraining.check_speaks(tokenization)
            return await self.encode(asked, constraining, tokenization, model.info)

        plan = partial(
            plans_of,
            model,
            asked,
            encode=encode,
            default_limit=self.default_limit,
            grammar=constraining.grammar,
        )
        return Order(
            model=asked.routed_name,
            routing=routing,
            plans=await plan(routing.targets),
            fallback=asked.fallback or context.settings.fallback,
            n=asked.n,
            # On the wire the lower number goes first, as in vLLM.
            priority=-asked.priority,
            deadline=accepted + asked.timeout if asked.timeout is not None else None,
            reader=constraining.reader,
            plan=plan,
        )


def _without_stand_in(routing: Routing, context: Context) -> Routing:
    """The targets of a request that takes no answer of the base for an adapter's.

    Raises:
        AdapterUnavailable: no adapter is there; counted here, since the engine never hears of it.
    """
    try:
        return routing.without_stand_in()
    except AdapterUnavailable:
        context.metrics.requests.refusals.labels(UNRESOLVED).inc()
        raise
