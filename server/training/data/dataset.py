"""Examples to what a trainer takes: split, encoded, cut, mixed, packed, and reported."""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from torch.utils.data import Dataset
from transformers import PreTrainedTokenizerBase

from server.errors import InvalidTrainingData
from server.training.data.encoded import Encoded
from server.training.data.encoder import EncodedPreference, Encoder
from server.training.data.mixing import drawn_counts, general_count, in_passes, mixing_shares
from server.training.data.packing import first_fit_decreasing
from server.training.data.preferences import cut_preference, preference_collator, preference_dataset
from server.training.data.report import DataReport, TaskReport
from server.training.data.rows import Collator, Rows
from server.training.data.splitting import split
from server.training.data.task_data import EncodedTask, Row, TaskData
from server.training.example import Example, PreferenceExample
from server.training.job_spec import Hyperparameters, JobSpec

__all__ = ["PreparedData", "TaskData", "prepare"]

_AUTO_LENGTH: Final = 2048
_AUTO_LENGTH_STEP: Final = 64
_LEAST_AUTO_LENGTH: Final = 256
_MANY_PASSES: Final = 4
# PEFT's methods with virtual tokens take no positions, so that packed examples would see each other.
_UNPACKED_METHODS: Final = frozenset({"prompt", "prefix", "p-tuning"})


@dataclass(frozen=True)
class PreparedData:
    """What is trained on. One pass over `train` is an epoch.

    Supervised: rows have `input_ids`, `labels` and `position_ids` (see `Rows`). Preferences: `train` and `validation`
    are Hugging Face datasets of `prompt_ids`, `chosen_ids` and `rejected_ids`, which is what TRL's DPOTrainer makes of
    its input, so its own preparation is to be left out. `held_out` are the validation examples, for the evaluation.
    """

    train: Dataset[Any]
    validation: Dataset[Any]
    collator: Callable[[Any], dict[str, Any]]
    report: DataReport
    held_out: Sequence[Example]


def prepare(
    sources: Sequence[TaskData],
    tokenizer: PreTrainedTokenizerBase,
    *,
    spec: JobSpec,
    general: Sequence[str] = (),
    validation: Sequence[Example] | None = None,
    between: Callable[[], object] = lambda: None,
) -> PreparedData:
    """The data of a job: the same sources, spec and tokenizer give the same rows in the same order.

    `general` are the texts that `general_share` of the examples is drawn from. `validation` are the examples of a
    validation file; without, `validation_share` of each task is held out. `between` is called between two examples;
    what it raises ends the preparation.

    Raises:
        InvalidTrainingData: an example does not fit the objective or the chat template, nothing is left to learn, or a
            setting of the mixture is out of range. The message names the example or the field.
    """
    if not any(source.examples for source in sources):
        raise InvalidTrainingData("there are no examples to train on")
    return _Preparation(tokenizer, spec, between).prepared(sources, general, validation)


class _Preparation:
    def __init__(self, tokenizer: PreTrainedTokenizerBase, spec: JobSpec, between: Callable[[], object]) -> None:
        self._encoder = Encoder(tokenizer)
        self._context = tokenizer.model_max_length
        self._spec = spec
        self._between = between
        self._notes: list[str] = []

    @property
    def _settings(self) -> Hyperparameters:
        return self._spec.hyperparameters

    def prepared(
        self, sources: Sequence[TaskData], general: Sequence[str], validation: Sequence[Example] | None
    ) -> PreparedData:
        if self._spec.objective == "dpo":
            return self._preferences(sources, validation)
        tasks = self._encoded(sources, validation, self._rows_of)
        longest = max(len(row) for task in tasks for rows in task.training + task.validation for row in rows)
        max_length = self._max_length(longest)
        for task in tasks:
            self._cut(task, lambda row: _cut(row, max_length))
        shares, counts, picked = self._mixed(tasks)
        rows = [row for task, example in picked for row in tasks[task].training[example]]
        texts = self._general(general, len(picked), max_length)
        examples = [*rows, *texts]
        self._chance("order").shuffle(examples)
        packing = self._packing
        train = Rows(examples, self._packed([len(row) for row in examples], max_length))
        held_out = [row for task in tasks for rows in task.validation for row in rows]
        total = len(picked) + len(texts)
        report = DataReport(
            kind="supervised",
            max_length=max_length,
            packing=packing,
            tasks=_task_reports(tasks, shares, counts, total),
            general_drawn=len(texts),
            general_share=len(texts) / total,
            examples=total,
            rows=len(train),
            validation_rows=len(held_out),
            tokens=sum(map(len, examples)),
            learnt_tokens=sum(row.learnt_tokens for row in examples),
            longest=longest,
            longest_row=max(train.lengths),
            mean_length=sum(map(len, examples)) / len(examples),
            fill=sum(map(len, examples)) / (len(train) * max_length),
            notes=tuple(self._notes),
        )
        return PreparedData(
            train=train,
            validation=Rows(held_out, [[place] for place in range(len(held_out))]),
            collator=Collator(self._encoder.padding, packed=packing),
            report=report,
            held_out=tuple(example for task in tasks for example in task.held_out),
        )

    def _preferences(self, sources: Sequence[TaskData], validation: Sequence[Example] | None) -> PreparedData:
        if self._settings.general_share:
            raise InvalidTrainingData("general_share: preferences are not mixed with general texts; leave it at 0")
        tasks = self._encoded(sources, validation, self._preference_of)
        lengths = [
            len(row.prompt) + max(len(row.chosen), len(row.rejected))
            for task in tasks
            for rows in task.training + task.validation
            for row in rows
        ]
        max_length = self._max_length(max(lengths))
        for task in tasks:
            self._cut(task, lambda row: cut_preference(row, max_length))
        shares, counts, picked = self._mixed(tasks)
        rows = [row for task, example in picked for row in tasks[task].training[example]]
        held_out = [row for task in tasks for rows in task.validation for row in rows]
        both = [len(row.prompt) + len(answer) for row in rows for answer in (row.chosen, row.rejected)]
        report = DataReport(
            kind="preference",
            max_length=max_length,
            packing=False,
            tasks=_task_reports(tasks, shares, counts, len(rows)),
            general_drawn=0,
            general_share=0.0,
            examples=len(rows),
            rows=len(rows),
            validation_rows=len(held_out),
            tokens=sum(both),
            learnt_tokens=sum(len(row.chosen) + len(row.rejected) for row in rows),
            longest=max(lengths),
            longest_row=max(both),
            mean_length=sum(both) / len(both),
            fill=sum(both) / (len(both) * max_length),
            notes=tuple(self._notes),
        )
        return PreparedData(
            train=preference_dataset(rows),
            validation=preference_dataset(held_out),
            collator=preference_collator(self._encoder.padding),
            report=report,
            held_out=tuple(example for task in tasks for example in task.held_out),
        )

    def _encoded(
        self, sources: Sequence[TaskData], validation: Sequence[Example] | None, encode: Callable[[Example], list[Row]]
    ) -> list[EncodedTask[Row]]:
        tasks: list[EncodedTask[Row]] = []
        for source in sources:
            task: EncodedTask[Row] = EncodedTask(source)
            share = 0.0 if validation is not None else self._spec.validation_share
            training, held_out = split(source.examples, share=share, seed=self._spec.seed)
            numbers = {id(example): number for number, example in enumerate(source.examples, start=1)}
            for examples, kept in ((training, task.training), (held_out, task.validation)):
                for example in examples:
                    self._between()
                    place = f"example {numbers[id(example)]} of task {source.name}"
                    kept.append(_named(place, encode, example))
            task.held_out.extend(held_out)
            tasks.append(task)
        if validation is not None:
            first = tasks[0]
            for number, example in enumerate(validation, start=1):
                self._between()
                first.validation.append(_named(f"example {number} of the validation file", encode, example))
                first.held_out.append(example)
        for task in tasks:
            task.unrolled = sum(len(rows) > 1 for rows in task.training + task.validation)
        return tasks

    def _rows_of(self, example: Example) -> list[Encoded]:
        if isinstance(example, PreferenceExample):
            raise InvalidTrainingData("it is a preference: use the method dpo, or give it one answer")
        return self._encoder.rows(example)

    def _preference_of(self, example: Example) -> list[EncodedPreference]:
        if not isinstance(example, PreferenceExample):
            raise InvalidTrainingData("it is no preference, which the method dpo needs: use the method supervised")
        return [self._encoder.preference(example)]

    def _max_length(self, longest: int) -> int:
        if (asked := self._settings.max_length) is not None:
            if asked < 2:
                raise InvalidTrainingData(f"max_length: must be at least 2, is {asked}")
            if asked > self._context:
                raise InvalidTrainingData(f"max_length: {asked} is more than the {self._context} that the base takes")
            return asked
        stepped = -(-longest // _AUTO_LENGTH_STEP) * _AUTO_LENGTH_STEP
        return min(_AUTO_LENGTH, self._context, max(stepped, _LEAST_AUTO_LENGTH))

    def _cut(self, task: EncodedTask[Row], cut: Callable[[Row], Row | None]) -> None:
        """Cut what is too long; drop the rows, and the examples, of which nothing learnt is left."""
        for examples, is_validation in ((task.training, False), (task.validation, True)):
            kept: list[int] = []
            for place, rows in enumerate(examples):
                shorter = [row for row in map(cut, rows) if row is not None]
                if shorter:
                    kept.append(place)
                    task.truncated += shorter != rows
                else:
                    task.dropped += 1
                examples[place] = shorter
            examples[:] = [examples[place] for place in kept]
            if is_validation:
                task.held_out[:] = [task.held_out[place] for place in kept]
        if task.truncated:
            self._notes.append(f"task {task.source.name}: {task.truncated} examples are cut at max_length")
        if task.dropped:
            self._notes.append(
                f"task {task.source.name}: {task.dropped} examples are dropped: their answers begin beyond max_length"
            )
        if task.unrolled:
            self._notes.append(
                f"task {task.source.name}: {task.unrolled} conversations are one row an answer, for the chat template "
                "writes earlier turns otherwise than they were when they were answered"
            )

    def _mixed(self, tasks: Sequence[EncodedTask[Row]]) -> tuple[list[float], list[int], list[tuple[int, int]]]:
        """The tasks' shares, their counts, and an epoch's examples as (task, example)."""
        sizes = [len(task.training) for task in tasks]
        if not any(sizes):
            raise InvalidTrainingData(
                "nothing is left to learn: every answer begins beyond max_length; raise it or shorten the prompts"
            )
        cap = self._settings.mixing_cap
        if cap is not None and cap < 1:
            raise InvalidTrainingData(f"mixing_cap: must be at least 1, is {cap}")
        weights = [task.source.mixing_weight for task in tasks]
        shares = mixing_shares(sizes, weights, exponent=self._settings.mixing_exponent, cap=cap)
        counts = drawn_counts(sizes, shares, cap=cap)
        chance = self._chance("mixing")
        picked = [
            (task, example) for task, count in enumerate(counts) for example in in_passes(sizes[task], count, chance)
        ]
        chance.shuffle(picked)
        return shares, counts, picked

    def _general(self, texts: Sequence[str], drawn: int, max_length: int) -> list[Encoded]:
        count = general_count(drawn, self._settings.general_share)
        if not count:
            return []
        if not texts:
            raise InvalidTrainingData("general_share: there are no general texts to draw from; set it to 0")
        encoded = [self._encoder.text(text).cut(max_length) for text in texts]
        if count > _MANY_PASSES * len(encoded):
            self._notes.append(
                f"the {len(encoded)} general texts are passed over {count / len(encoded):.1f} times an epoch: lower "
                "general_share, or add a task of general text of your own"
            )
        return [encoded[place] for place in in_passes(len(encoded), count, self._chance("general"))]

    @property
    def _packing(self) -> bool:
        if not self._settings.packing:
            return False
        return self._spec.peft.method not in _UNPACKED_METHODS

    def _packed(self, lengths: list[int], max_length: int) -> list[list[int]]:
        if not self._packing:
            if self._settings.packing:
                self._notes.append(f"packing is off: {self._spec.peft.method} takes no positions of packed examples")
            return [[place] for place in range(len(lengths))]
        packed = first_fit_decreasing(lengths, max_length)
        self._chance("rows").shuffle(packed)
        return packed

    def _chance(self, purpose: str) -> random.Random:
        """Numbers of their own for each purpose, so that one setting leaves the others' draws as they were."""
        return random.Random(f"{self._spec.seed}:{purpose}")


def _named(place: str, encode: Callable[[Example], list[Row]], example: Example) -> list[Row]:
    try:
        return encode(example)
    except InvalidTrainingData as error:
        raise InvalidTrainingData(f"{place}: {error.message}") from error


def _cut(row: Encoded, max_length: int) -> Encoded | None:
    cut = row.cut(max_length)
    return cut if cut.learnt_tokens else None


def _task_reports(
    tasks: Sequence[EncodedTask[Row]], shares: Sequence[float], counts: Sequence[int], total: int
) -> tuple[TaskReport, ...]:
    return tuple(
        TaskReport(
            name=task.source.name,
            examples=len(task.source.examples),
            training=len(task.training),
            validation=len(task.validation),
            share=share * sum(counts) / total,
            drawn=count,
            truncated=task.truncated,
            dropped=task.dropped,
            unrolled=task.unrolled,
        )
        for task, share, count in zip(tasks, shares, counts, strict=True)
    )
