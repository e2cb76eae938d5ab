"""What a demo found, as data: for people in `server.demo.screen`, for programs as JSON."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from adapters_store import Publication
from server.demo.dates import DateTask, is_right
from server.demo.exposition import Exposition
from server.demo.interview import BARE, Answer

__all__ = ["BatchFigures", "DemoReport", "Score", "scores"]


@dataclass(frozen=True)
class Score:
    """Held-out questions that an adapter, and the base alone, answered exactly right."""

    adapter: str
    language: str
    right: int
    base_right: int
    asked: int


@dataclass(frozen=True)
class BatchFigures:
    """What the server's metrics say. Maxima are bounds of histogram buckets; times in milliseconds.

    Batch, token and first-token figures are of the held-out questions alone, cache figures of the whole run.
    """

    adapters_mean: float
    adapters_max: float
    rows_mean: float
    rows_max: float
    cache_hits: int
    cache_misses: int
    loads: int
    load_ms: float
    tokens: int
    tokens_per_second: float
    first_token_p50_ms: float

    @classmethod
    def read(cls, before: Exposition, after: Exposition, seconds: float) -> "BatchFigures":
        """From the metrics before and after the held-out questions, which took `seconds`."""
        run = after.since(before)
        adapters, rows = run.histogram("switchyard_batch_adapters"), run.histogram("switchyard_batch_rows")
        tokens = run.total("switchyard_generation_tokens_total")
        return cls(
            adapters_mean=adapters.mean,
            adapters_max=adapters.upper_bound,
            rows_mean=rows.mean,
            rows_max=rows.upper_bound,
            cache_hits=int(after.total("switchyard_adapter_cache_hits_total")),
            cache_misses=int(after.total("switchyard_adapter_cache_misses_total")),
            loads=int(after.total("switchyard_adapter_loads_total")),
            load_ms=1000 * after.histogram("switchyard_adapter_load_seconds").mean,
            tokens=int(tokens),
            tokens_per_second=tokens / seconds,
            first_token_p50_ms=1000 * run.histogram("switchyard_time_to_first_token_seconds").quantile(0.5),
        )


@dataclass(frozen=True)
class DemoReport:
    """Everything that the demo shows."""

    prompt: str
    publications: tuple[Publication, ...]
    side_by_side: tuple[Answer, ...]
    scores: tuple[Score, ...]
    figures: BatchFigures
    answers: int
    failures: tuple[str, ...]
    ready_seconds: float
    held_out_seconds: float

    @property
    def passed(self) -> bool:
        """Every answer came from the version it should, and every adapter beats the base."""
        return not self.failures and all(score.right > score.base_right for score in self.scores)

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {
            "passed": self.passed,
            "prompt": self.prompt,
            "side_by_side": [
                {"model": answer.inquiry.model, "answer": answer.text, "digest": answer.digest}
                for answer in self.side_by_side
            ],
            "held_out": [asdict(score) for score in self.scores],
            "metrics": asdict(self.figures),
            "answers": self.answers,
            "failures": list(self.failures),
            "ready_seconds": self.ready_seconds,
            "held_out_seconds": self.held_out_seconds,
        }


def scores(tasks: Sequence[DateTask], answers: Sequence[Answer]) -> tuple[Score, ...]:
    """Count right answers. The base is asked once a date, and measured against each language's answer."""

    def right(model: str, task: DateTask) -> int:
        return sum(
            is_right(answer.text, task.answer(answer.inquiry.day))
            for answer in answers
            if answer.inquiry.model == model
        )

    return tuple(
        Score(
            adapter=task.adapter,
            language=task.language,
            right=right(task.adapter, task),
            base_right=right(BARE, task),
            asked=sum(answer.inquiry.model == task.adapter for answer in answers),
        )
        for task in tasks
    )
