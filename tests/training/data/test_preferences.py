"""Preferences are what TRL's DPOTrainer makes of its own input, and what it takes."""

from typing import Any

import pytest

from server.training.data.dataset import PreparedData, TaskData, prepare
from server.training.data.encoder import EncodedPreference
from server.training.data.preferences import cut_preference
from server.training.example import Example
from server.training.job_spec import Hyperparameters, JobSpec, TrainingSource
from tests.tiny_models import tiny_tokenizer
from tests.training.data.chat_templates import text_of
from tests.training.data.test_dataset import preference


def prepared(count: int, *, max_length: int | None = None) -> PreparedData:
    examples: list[Example] = [preference(number) for number in range(count)]
    spec = JobSpec(
        base="tiny",
        adapter="a",
        sources=(TrainingSource(file_id="file-1"),),
        objective="dpo",
        validation_share=0.3,
        hyperparameters=Hyperparameters(max_length=max_length),
    )
    return prepare([TaskData("main", examples)], tiny_tokenizer(), spec=spec)


def test_prompts_end_where_answers_begin_and_answers_end() -> None:
    data = prepared(10)
    rows: Any = data.train
    tokenizer = tiny_tokenizer()
    number = text_of(tokenizer, rows[0]["chosen_ids"]).removesuffix("<eos>")
    assert number.isdigit()
    assert text_of(tokenizer, rows[0]["prompt_ids"]) == f"<bos>user: Say {number}.<eos><bos>assistant: "
    assert text_of(tokenizer, rows[0]["rejected_ids"]) == "No, I would rather not.<eos>"
    assert len(rows) == data.report.rows
    assert len(rows) + data.report.validation_rows == 10
    assert len(data.held_out) == data.report.validation_rows


def test_trl_collates_them() -> None:
    data = prepared(10)
    rows: Any = data.train
    batch = data.collator([rows[place] for place in range(2)])
    assert batch["input_ids"].shape[0] == 4
    assert batch["completion_mask"].sum() == sum(
        len(rows[place]["chosen_ids"]) + len(rows[place]["rejected_ids"]) for place in range(2)
    )


@pytest.mark.parametrize(
    ("length", "cut"),
    [
        (9, EncodedPreference((1, 2), (3, 4, 5), (3, 6))),
        (4, EncodedPreference((1, 2), (3, 4), (3, 6))),
        # Of both answers the same is left, or nothing.
        (3, None),
        (2, None),
    ],
)
def test_answers_are_cut_at_their_ends(length: int, cut: EncodedPreference | None) -> None:
    assert cut_preference(EncodedPreference((1, 2), (3, 4, 5), (3, 6)), length) == cut
