"""From an order to running generations and the response that delivers them."""

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial

from server.api.context import Context, ServedModel
from server.api.formats.answer_format import AnswerFormat
from server.api.generation.admission import Admission, Place
from server.api.generation.attempt import attempt_of
from server.api.generation.choice import Choice
from server.api.generation.delivery import Delivery, GenerationResponse
from server.api.generation.order import Order
from server.api.generation.shared_prompt import SharedPrompt
from server.api.routing.mirroring import finish_task
from server.errors import InvalidRequest


@contextlib.contextmanager
def entered(admission: Admission, count: int) -> Iterator[list[Place]]:
    """`count` places, one for each choice of a request, which are given back if the request is not submitted.

    Raises:
        InvalidRequest: the server never has so many.
        QueueFull: fewer are free.
    """
    if 1 < count > admission.capacity:
        raise InvalidRequest(
            f"n: the request asks for {count} choices, but this server takes {admission.capacity} at once; "
            "ask for fewer, or in several requests",
            param="n",
        )
    places = admission.enter_all(count)
    try:
        yield places
    except BaseException:
        for place in places:
            place.withdraw()
        raise


def submit(
    context: Context,
    model: ServedModel,
    order: Order,
    *,
    answer: AnswerFormat,
    stream: bool,
    places: Sequence[Place],
) -> GenerationResponse:
    """Hand an order to the engine, all of its choices or none. `places` has one for each choice.

    Raises:
        EngineUnavailable: the engine is not ready.
    """
    scored = [SharedPrompt() for _ in order.plans[0].prompts] if order.scores_prompts else None
    choices = [
        _choice(context, model, order, index, place, scored[order.prompt_of(index)] if scored is not None else None)
        for index, place in enumerate(places)
    ]
    try:
        # Last, since whatever failed after it would leave the engine with requests that nobody reads.
        for choice in choices:
            choice.submit()
    except BaseException:
        for choice in choices:
            choice.withdraw()
        raise
    context.preloader.asked(order.routing.targets[0])
    after = partial(finish_task, order, choices, context.metrics.tasks, model.shadowing)
    return GenerationResponse(Delivery(choices, order.model, answer, stream, after))


def _choice(
    context: Context, model: ServedModel, order: Order, index: int, place: Place, scored: SharedPrompt | None
) -> Choice:
    last = len(order.plans) - 1
    attempts = [
        attempt_of(order, plan, index, order.fallback if number == last else "error")
        for number, plan in enumerate(order.plans)
    ]
    first = attempts[0]
    record = context.metrics.requests.begin(
        first.target.name, len(first.command.prompt), model.name, tenant=first.target.tenant
    )
    return Choice(
        index,
        order.prompt_of(index),
        attempts=attempts,
        deadline=order.deadline,
        routing=order.routing,
        engine=context.engine,
        record=record,
        place=place,
        scored=scored,
    )
