"""What the demo asks: one prompt to everybody, then held-out questions to everybody at once."""

import time
from collections.abc import Callable, Sequence

import httpx

from adapters_store import Publication
from server.demo.dates import DATE_TASKS, held_out_dates, question
from server.demo.exposition import Exposition
from server.demo.interview import BARE, Answer, Inquiry, interview
from server.demo.report import BatchFigures, DemoReport, scores

__all__ = ["conduct"]


async def conduct(
    url: str,
    publications: Sequence[Publication],
    *,
    questions: int,
    api_key: str | None,
    ready_seconds: float,
    on_answer: Callable[[], None],
) -> DemoReport:
    """Ask the server at `url` and report. `on_answer` is called for every answer to a held-out question.

    `publications` are of the adapters of all date tasks.

    Raises:
        httpx.HTTPError: the metrics cannot be read.
    """
    digests = {str(publication.version.name): publication.version.digest for publication in publications}
    models = (BARE, *(task.adapter for task in DATE_TASKS))
    shown, *held_out = held_out_dates(questions + 1)

    async def ask(inquiries: Sequence[Inquiry], told: Callable[[], None]) -> list[Answer]:
        return await interview(url, inquiries, digests=digests, api_key=api_key, on_answer=told)

    side_by_side = await ask([Inquiry(model, shown) for model in models], _unheard)
    before, start = await _metrics(url), time.monotonic()
    answers = await ask([Inquiry(model, day) for day in held_out for model in models], on_answer)
    seconds = time.monotonic() - start
    return DemoReport(
        prompt=question(shown),
        publications=tuple(publications),
        side_by_side=tuple(side_by_side),
        scores=scores(DATE_TASKS, answers),
        figures=BatchFigures.read(before, await _metrics(url), seconds),
        answers=len(side_by_side) + len(answers),
        failures=tuple(answer.failure for answer in (*side_by_side, *answers) if answer.failure is not None),
        ready_seconds=ready_seconds,
        held_out_seconds=seconds,
    )


async def _metrics(url: str) -> Exposition:
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.get(f"{url}/metrics", headers={"accept": "text/plain"})
        return Exposition.parse(answer.raise_for_status().text)


def _unheard() -> None:
    return None
