"""Training, on a tiny random model: what is learnt from, and what is written."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from adapters_store import AdapterStore, parse_adapter_name
from server.demo.dates import DATE_TASKS, held_out_dates, question
from server.demo.recipe import RECIPES, Recipe
from server.demo.train import QuestionDataset, accuracy, collate, main, train_adapter
from tests.tiny_models import tiny_tokenizer, write_tiny_model

FRENCH = DATE_TASKS[0]
QUICK = Recipe(FRENCH, rank=2, alpha=4, targets=("q_proj", "down_proj"), rslora=True, steps=3, batch_size=2)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return tiny_tokenizer()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model("llama", tmp_path_factory.mktemp("base"))


def test_the_loss_is_on_the_answer_and_its_end_only(tokenizer: PreTrainedTokenizerFast) -> None:
    (day,) = held_out_dates(1)
    row = QuestionDataset(tokenizer, FRENCH, [day])[0]
    learnt = [label for label in row["labels"] if label != -100]
    assert tokenizer.decode(learnt) == FRENCH.answer(day) + "<eos>"
    assert tokenizer.decode(row["input_ids"]) == (
        f"<bos>user: {question(day)}<eos><bos>assistant: {FRENCH.answer(day)}<eos>"
    )
    assert row["labels"][-len(learnt) :] == row["input_ids"][-len(learnt) :]


def test_padding_is_neither_attended_nor_learnt() -> None:
    batch = collate(
        [{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}, {"input_ids": [8], "labels": [8]}], pad_token_id=0
    )
    assert batch["input_ids"].tolist() == [[5, 6, 7], [8, 0, 0]]
    assert batch["attention_mask"].tolist() == [[1, 1, 1], [1, 0, 0]]
    assert batch["labels"].tolist() == [[-100, 6, 7], [8, -100, -100]]


def test_a_training_writes_a_publishable_fp16_adapter(
    base: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    model = AutoModelForCausalLM.from_pretrained(base)
    tuned = train_adapter(model, tokenizer, QUICK, tmp_path / "adapter")
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.dtype for tensor in weights.values()} == {torch.float16}
    assert any(tensor.abs().max() > 0 for name, tensor in weights.items() if "lora_B" in name)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "smollm2-135m"
    assert (config["r"], config["lora_alpha"], config["use_rslora"]) == (2, 4, True)
    publication = AdapterStore(tmp_path / "store").publish(parse_adapter_name("a"), tmp_path / "adapter")
    assert publication.version.metadata.rank_max == 2
    # The figures of a run are of the weights that were saved, not of finer ones.
    again = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), str(tmp_path / "adapter"))
    ids = torch.arange(30).unsqueeze(0)
    tuned.eval()
    with torch.inference_mode():
        torch.testing.assert_close(again(input_ids=ids).logits, tuned(input_ids=ids).logits)


def test_a_training_lowers_the_loss_on_dates_it_has_not_seen(
    base: Path, tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    rows = QuestionDataset(tokenizer, FRENCH, held_out_dates(8))
    batch = collate([rows[index] for index in range(8)], pad_token_id=0)
    model = AutoModelForCausalLM.from_pretrained(base)
    with torch.inference_mode():
        before = model(**batch).loss
    tuned = train_adapter(model, tokenizer, replace(QUICK, steps=40, learning_rate=1e-2), tmp_path / "adapter").eval()
    with torch.inference_mode():
        assert tuned(**batch).loss < 0.8 * before


def test_accuracy_counts_exact_answers_of_unlike_lengths(base: Path, tokenizer: PreTrainedTokenizerFast) -> None:
    """A stand-in answers every question with the answer to the first date."""
    days = held_out_dates(4)

    class Stubborn(torch.nn.Module):
        device = torch.device("cpu")

        def generate(self, *, input_ids: torch.Tensor, attention_mask: torch.Tensor, **_: object) -> torch.Tensor:
            assert input_ids.shape == attention_mask.shape
            prompt = tokenizer.decode(input_ids[0][attention_mask[0].bool()])
            assert str(prompt).endswith("<bos>assistant: ")
            answer = torch.tensor(tokenizer.encode(FRENCH.answer(days[0]) + "<eos>"))
            return torch.cat([input_ids, answer.expand(len(input_ids), -1)], dim=1)

    assert accuracy(Stubborn(), tokenizer, FRENCH, days) == 0.25  # type: ignore[arg-type]
    untrained = AutoModelForCausalLM.from_pretrained(base)
    assert accuracy(untrained, tokenizer, FRENCH, days) == 0.0


def test_an_unknown_adapter_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["klingon-dates"])
    assert "french-dates" in capsys.readouterr().err


def test_there_is_a_recipe_for_every_task_and_they_differ() -> None:
    assert [recipe.task for recipe in RECIPES] == list(DATE_TASKS)
    assert len({recipe.rank for recipe in RECIPES}) > 2
    assert {recipe.rslora for recipe in RECIPES} == {True, False}
