"""A finished demo as data, for the tests of what is made of it."""

from datetime import date
from pathlib import Path

from adapters_store import AdapterMetadata, Publication, Version, parse_adapter_name
from server.demo.dates import DATE_TASKS, question
from server.demo.interview import Answer, Inquiry
from server.demo.report import BatchFigures, DemoReport, Score

DAY = date(2005, 8, 10)
FIGURES = BatchFigures(
    adapters_mean=3.9,
    adapters_max=4,
    rows_mean=28.4,
    rows_max=32,
    cache_hits=96,
    cache_misses=4,
    loads=4,
    load_ms=12.3,
    tokens=1234,
    tokens_per_second=105.4,
    first_token_p50_ms=740.0,
)


def publication(name: str, rank: int) -> Publication:
    metadata = AdapterMetadata(
        method="lora",
        rank_min=rank,
        rank_max=rank,
        modules_by_rank={rank: 210},
        parameters=1000,
        tensor_bytes=2_400_000,
        dtype="F16",
        base_name="smollm2-135m",
        target_modules=("q_proj",),
    )
    version = Version(
        name=parse_adapter_name(name),
        digest="sha256:" + f"{rank:x}" * 64,
        directory=Path("versions"),
        metadata=metadata,
        created="2026-01-01T00:00:00Z",
    )
    return Publication(version=version, alias="latest", previous=None, created=True, warnings=())


def example_report(*, right: int = 23, base_right: int = 0, failures: tuple[str, ...] = ()) -> DemoReport:
    publications = tuple(publication(task.adapter, rank + 1) for rank, task in enumerate(DATE_TASKS))
    base = Answer(Inquiry("base", DAY), 'The date 2005-08-10 in words is:\n\n"August 10th, 2005, at the hour of"', None)
    adapted = (
        Answer(Inquiry(task.adapter, DAY), task.answer(DAY), entry.version.digest)
        for task, entry in zip(DATE_TASKS, publications, strict=True)
    )
    return DemoReport(
        prompt=question(DAY),
        publications=publications,
        side_by_side=(base, *adapted),
        scores=tuple(Score(task.adapter, task.language, right, base_right, 24) for task in DATE_TASKS),
        figures=FIGURES,
        answers=125,
        failures=failures,
        ready_seconds=12.34,
        held_out_seconds=11.7,
    )
