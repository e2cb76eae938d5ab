"""A job's data from examples to batches: reproducible, split, mixed, packed, and honestly reported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast, Trainer, TrainingArguments

from server.errors import InvalidTrainingData
from server.training.data.dataset import PreparedData, TaskData, prepare
from server.training.data.encoded import IGNORED
from server.training.data.general import general_texts
from server.training.example import ChatExample, CompletionExample, Example, Message, PreferenceExample
from server.training.job_spec import Hyperparameters, JobSpec, PeftSpec, TrainingSource
from tests.tiny_models import tiny_tokenizer, write_tiny_model
from tests.training.data.chat_templates import SHAPES, base_tokenizer, text_of

GENERAL = general_texts().training


def chat(number: int, *, words: int = 1) -> ChatExample:
    return ChatExample(
        messages=(
            Message(role="user", content=f"Say {number}."),
            Message(role="assistant", content=" ".join([f"{number}"] * words)),
        )
    )


def completion(number: int) -> CompletionExample:
    return CompletionExample(prompt=f"{number} and one are", completion=f" {number + 1}.")


def preference(number: int) -> PreferenceExample:
    return PreferenceExample(
        messages=(Message(role="user", content=f"Say {number}."),),
        preferred=(Message(role="assistant", content=f"{number}"),),
        rejected=(Message(role="assistant", content="No, I would rather not."),),
    )


def spec(
    *, objective: Any = "supervised", method: Any = "lora", seed: int = 0, share: float = 0.1, **how: Any
) -> JobSpec:
    return JobSpec(
        base="tiny",
        adapter="a",
        sources=(TrainingSource(file_id="file-1"),),
        objective=objective,
        peft=PeftSpec(method=method),
        seed=seed,
        validation_share=share,
        hyperparameters=Hyperparameters(**how),
    )


def task(examples: Sequence[Example], name: str = "main", weight: float | None = None) -> TaskData:
    return TaskData(name, examples, weight)


def all_rows(data: PreparedData) -> list[dict[str, list[int]]]:
    train: Any = data.train
    return [train[place] for place in range(len(train))]


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


def test_every_training_example_is_in_the_rows_once(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = [completion(number) for number in range(60)]
    data = prepare([task(examples)], tokenizer, spec=spec(max_length=200))
    text = "".join(text_of(tokenizer, row["input_ids"]) for row in all_rows(data))
    held_out = {example.prompt for example in data.held_out if isinstance(example, CompletionExample)}
    assert held_out
    for example in examples:
        whole = f"{example.prompt}{example.completion}<eos>"
        assert text.count(whole) >= (0 if example.prompt in held_out else 1)
    assert text.count("<eos>") == data.report.examples == 60 - len(held_out)
    assert data.report.rows < data.report.examples


def test_only_completions_and_their_ends_are_learnt(tokenizer: PreTrainedTokenizerFast) -> None:
    data = prepare([task([completion(4)])], tokenizer, spec=spec(packing=False))
    (row,) = all_rows(data)
    assert text_of(tokenizer, [label for label in row["labels"] if label != IGNORED]) == " 5.<eos>"
    assert data.report.learnt_tokens == len(" 5.") + 1


def test_the_same_spec_gives_the_same_rows_and_another_seed_others(tokenizer: PreTrainedTokenizerFast) -> None:
    sources = [task([chat(n) for n in range(40)]), task([completion(n) for n in range(300)], "sums")]
    settings: dict[str, Any] = {"general_share": 0.2, "max_length": 256}
    first = prepare(sources, tokenizer, spec=spec(**settings), general=GENERAL)
    again = prepare(sources, tokenizer, spec=spec(**settings), general=GENERAL)
    other = prepare(sources, tokenizer, spec=spec(seed=1, **settings), general=GENERAL)
    assert all_rows(first) == all_rows(again)
    assert (first.report, first.held_out) == (again.report, again.held_out)
    assert all_rows(first) != all_rows(other)


def test_tasks_are_mixed_by_the_formula_and_general_texts_by_their_share(tokenizer: PreTrainedTokenizerFast) -> None:
    sources = [task([chat(n) for n in range(20)]), task([completion(n) for n in range(400)], "sums", 0.5)]
    report = prepare(sources, tokenizer, spec=spec(share=0, general_share=0.25), general=GENERAL).report
    small, large = report.tasks
    masses = 20**0.7, 0.5 * 400**0.7
    assert small.drawn + large.drawn == 420
    assert small.drawn == pytest.approx(420 * masses[0] / sum(masses), abs=1)
    assert report.general_drawn == round(420 / 3)
    assert report.general_share == pytest.approx(0.25)
    assert small.share + large.share + report.general_share == pytest.approx(1)
    assert report.examples == 420 + report.general_drawn


def test_many_passes_over_few_general_texts_are_told(tokenizer: PreTrainedTokenizerFast) -> None:
    examples = [completion(n) for n in range(100)]
    report = prepare([task(examples)], tokenizer, spec=spec(general_share=0.3), general=GENERAL[:5]).report
    assert "passed over" in report.notes[0]


def test_what_is_too_long_is_cut_or_dropped_and_counted(tokenizer: PreTrainedTokenizerFast) -> None:
    long_prompt = CompletionExample(prompt="x" * 100, completion="y")
    examples: list[Example] = [*(completion(n) for n in range(5)), chat(7, words=100), long_prompt, long_prompt]
    data = prepare([task(examples)], tokenizer, spec=spec(max_length=64, share=0))
    (main,) = data.report.tasks
    assert (main.truncated, main.dropped, main.training) == (1, 2, 6)
    assert data.report.notes == (
        "task main: 1 examples are cut at max_length",
        "task main: 2 examples are dropped: their answers begin beyond max_length",
    )
    assert max(len(row["input_ids"]) for row in all_rows(data)) <= 64
    assert data.report.longest > 64
    with pytest.raises(InvalidTrainingData, match="nothing is left to learn"):
        prepare([task([long_prompt])], tokenizer, spec=spec(max_length=64))


def test_the_held_out_examples_are_the_rows_of_the_validation(tokenizer: PreTrainedTokenizerFast) -> None:
    examples: list[Example] = [completion(n) for n in range(50)]
    examples += [CompletionExample(prompt=f"{n}" + "x" * 100, completion="y") for n in range(50)]
    data = prepare([task(examples)], tokenizer, spec=spec(max_length=64, share=0.4))
    validation: Any = data.validation
    assert len(data.held_out) == len(validation) == data.report.validation_rows > 0
    for place, example in enumerate(data.held_out):
        assert isinstance(example, CompletionExample)
        assert text_of(tokenizer, validation[place]["input_ids"]).startswith(example.prompt)


def test_a_validation_file_takes_the_place_of_the_share(tokenizer: PreTrainedTokenizerFast) -> None:
    data = prepare([task([chat(n) for n in range(9)])], tokenizer, spec=spec(share=0.5), validation=[chat(99)])
    assert data.held_out == (chat(99),)
    assert data.report.tasks[0].training == 9


def test_conversations_that_become_several_rows_are_told() -> None:
    example = ChatExample(messages=chat(1).messages + chat(2).messages)
    tokenizer = base_tokenizer(SHAPES["qwen 3"].template)
    report = prepare([task([example, chat(3)])], tokenizer, spec=spec(share=0)).report
    assert report.tasks[0].unrolled == 1
    assert "one row an answer" in report.notes[0]


def test_automatic_lengths_fit_the_longest_and_an_asked_one_must_fit_the_base(
    tokenizer: PreTrainedTokenizerFast,
) -> None:
    assert prepare([task([chat(1)])], tokenizer, spec=spec()).report.max_length == 256
    assert prepare([task([chat(1, words=150)])], tokenizer, spec=spec()).report.max_length == 384
    assert prepare([task([chat(1, words=5000)])], tokenizer, spec=spec()).report.max_length == 2048
    tokenizer.model_max_length = 300
    assert prepare([task([chat(1, words=5000)])], tokenizer, spec=spec()).report.max_length == 300
    with pytest.raises(InvalidTrainingData, match="max_length: 301 is more than the 300"):
        prepare([task([chat(1)])], tokenizer, spec=spec(max_length=301))


@pytest.mark.parametrize("method", ["prompt", "prefix", "p-tuning"])
def test_methods_with_virtual_tokens_are_not_packed(tokenizer: PreTrainedTokenizerFast, method: str) -> None:
    data = prepare([task([chat(n) for n in range(10)])], tokenizer, spec=spec(method=method, share=0))
    assert not data.report.packing
    assert data.report.rows == 10
    assert data.report.notes == (f"packing is off: {method} takes no positions of packed examples",)
    assert "attention_mask" in data.collator(all_rows(data))


@pytest.mark.parametrize(
    ("examples", "settings", "words"),
    [
        ([], {}, "there are no examples"),
        ([preference(1)], {}, "example 1 of task main: it is a preference"),
        ([preference(1), chat(2)], {"objective": "dpo", "share": 0}, "example 2 of task main: it is no preference"),
        ([preference(1)], {"objective": "dpo", "general_share": 0.2}, "general_share: preferences are not mixed"),
        ([chat(1)], {"general_share": 1.0}, "general_share: must be"),
        ([chat(1)], {"general_share": 0.9}, "no general texts"),
        ([chat(1), chat(2)], {"share": 1.0}, "validation_share: must be"),
        ([chat(1)], {"mixing_exponent": 2.0}, "mixing_exponent: must be"),
        ([chat(1)], {"mixing_cap": 0}, "mixing_cap: must be"),
        ([chat(1)], {"max_length": 1}, "max_length: must be"),
    ],
)
def test_what_cannot_be_prepared_is_refused_by_field_or_example(
    tokenizer: PreTrainedTokenizerFast, examples: list[Example], settings: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidTrainingData, match=words):
        prepare([task(examples)], tokenizer, spec=spec(**settings))


def test_an_example_that_the_template_refuses_is_named() -> None:
    tokenizer = base_tokenizer(SHAPES["gemma"].template)
    with_system = ChatExample(messages=(Message(role="system", content="Be brief."), *chat(1).messages))
    with pytest.raises(InvalidTrainingData, match=r"example 3 of task main: the chat template of .* no system"):
        prepare([task([chat(1), chat(2), with_system])], tokenizer, spec=spec(share=0))


def test_whoever_waits_can_end_the_preparation(tokenizer: PreTrainedTokenizerFast) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare([task([chat(1)])], tokenizer, spec=spec(), between=stop)


def test_a_report_is_json_values(tokenizer: PreTrainedTokenizerFast) -> None:
    values = prepare([task([chat(n) for n in range(9)])], tokenizer, spec=spec()).report.as_values()
    assert values["tasks"][0]["name"] == "main"
    assert 0 < values["fill"] <= 1


def test_transformers_trainer_takes_the_rows_and_learns_alike_packed_or_not(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    directory = write_tiny_model("llama", tmp_path / "model")
    losses = []
    for packing in (True, False):
        data = prepare([task([completion(n) for n in range(12)])], tokenizer, spec=spec(packing=packing, max_length=64))
        size = data.report.rows
        trainer = Trainer(
            model=AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="sdpa"),
            args=TrainingArguments(
                output_dir=str(tmp_path / "run"),
                max_steps=3,
                # All rows are one step, so that both ways make the same steps.
                per_device_train_batch_size=-(-size // 2),
                gradient_accumulation_steps=2,
                learning_rate=1e-2,
                lr_scheduler_type="constant",
                eval_strategy="steps",
                eval_steps=3,
                logging_steps=1,
                save_strategy="no",
                report_to="none",
                remove_unused_columns=False,
                use_cpu=True,
                disable_tqdm=True,
            ),
            train_dataset=data.train,
            eval_dataset=data.validation,
            data_collator=data.collator,
        )
        trainer.train()
        losses.append([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])
        assert any("eval_loss" in entry for entry in trainer.state.log_history)
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
    assert losses[0][-1] < losses[0][0]
