"""Train the demo adapters against the NF4 base that serves them: `python -m server.demo.train [ADAPTER …]`.

Each result is a PEFT directory below `server/demo/adapters`: configuration, fp16 safetensors and a README with
the figures of the run. A few minutes an adapter on two CPU cores.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from rich.console import Console
from safetensors.torch import save_file
from torch.utils.data import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed

from server.config import default_cache_dir
from server.demo.base import BASE, QUANTIZATION
from server.demo.dates import DateTask, held_out_dates, is_right, question, training_dates
from server.demo.recipe import RECIPES, Recipe
from server.engine.base_model import load_base, prepare_base
from server.engine.base_progress import TerminalProgress

__all__ = ["Figures", "QuestionDataset", "accuracy", "collate", "train_adapter"]

ADAPTERS = Path(__file__).parent / "adapters"
_IGNORED = -100
_ANSWER_TOKENS = 24
_EVALUATED = 64


@dataclass(frozen=True)
class Figures:
    """What a run came to: exact matches on held-out dates as fractions, wall time in seconds."""

    base_accuracy: float
    accuracy: float
    evaluated: int
    seconds: float


class QuestionDataset(Dataset[dict[str, list[int]]]):
    """Questions and answers as the chat template joins them; the loss is on the answer and its end only."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, task: DateTask, days: Sequence[date]) -> None:
        self._rows = [_encoded(tokenizer, question(day), task.answer(day)) for day in days]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, list[int]]:
        return self._rows[index]


def collate(rows: Sequence[dict[str, list[int]]], *, pad_token_id: int) -> dict[str, torch.Tensor]:
    """Pad rows on the right to int64 tensors of [rows, longest]; padding is neither attended nor learnt."""
    longest = max(len(row["input_ids"]) for row in rows)

    def padded(values: Callable[[dict[str, list[int]]], list[int]], fill: int) -> torch.Tensor:
        return torch.tensor([values(row) + [fill] * (longest - len(values(row))) for row in rows])

    return {
        "input_ids": padded(lambda row: row["input_ids"], pad_token_id),
        "attention_mask": padded(lambda row: [1] * len(row["input_ids"]), 0),
        "labels": padded(lambda row: row["labels"], _IGNORED),
    }


def train_adapter(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe, destination: Path
) -> PeftModel:
    """Train `recipe` on `model` and write the adapter to `destination`. `model` keeps the adapter attached."""
    set_seed(recipe.seed)
    tuned = get_peft_model(model, _lora(recipe))
    assert isinstance(tuned, PeftModel)
    days = training_dates(recipe.steps * recipe.batch_size, seed=recipe.seed)
    Trainer(
        model=tuned,
        args=TrainingArguments(
            output_dir=str(destination),
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            lr_scheduler_type="linear",
            warmup_steps=3,
            logging_steps=5,
            save_strategy="no",
            report_to="none",
            seed=recipe.seed,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            use_cpu=not torch.cuda.is_available(),
        ),
        train_dataset=QuestionDataset(tokenizer, recipe.task, days),
        data_collator=lambda rows: collate(rows, pad_token_id=_end(tokenizer)),
    ).train()
    _save(tuned, recipe, destination)
    return tuned


def accuracy(
    model: PreTrainedModel | PeftModel, tokenizer: PreTrainedTokenizerFast, task: DateTask, days: Sequence[date]
) -> float:
    """The share of `days` that `model` answers exactly right, greedily, as one left-padded batch."""
    prompts = [_prompt_ids(tokenizer, question(day)) for day in days]
    longest = max(map(len, prompts))
    end = _end(tokenizer)
    ids = torch.tensor([[end] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    model.eval()
    with torch.inference_mode():
        output: torch.Tensor = cast(Any, model).generate(
            input_ids=ids.to(model.device),
            attention_mask=mask.to(model.device),
            do_sample=False,
            max_new_tokens=_ANSWER_TOKENS,
            eos_token_id=end,
            pad_token_id=end,
        )
    answers = tokenizer.batch_decode(output[:, longest:], skip_special_tokens=True)
    return sum(is_right(given, task.answer(day)) for given, day in zip(answers, days, strict=True)) / len(days)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the named adapters, by default all."""
    parser = argparse.ArgumentParser(prog="python -m server.demo.train", description="Train the demo adapters.")
    parser.add_argument("adapters", nargs="*", help="names of adapters; by default all")
    parser.add_argument("--cache-dir", type=Path, default=default_cache_dir(), help="where the base model is kept")
    chosen = parser.parse_args(arguments)
    names = [recipe.task.adapter for recipe in RECIPES]
    if unknown := sorted(set(chosen.adapters) - set(names)):
        parser.error(f"no recipe for {', '.join(unknown)}; there are {', '.join(names)}")
    prepared = prepare_base(BASE, quantization=QUANTIZATION, cache_dir=chosen.cache_dir, progress=TerminalProgress())
    tokenizer = PreTrainedTokenizerFast.from_pretrained(prepared.directory)
    console = Console()
    for recipe in RECIPES:
        if chosen.adapters and recipe.task.adapter not in chosen.adapters:
            continue
        # Loaded anew for each: an adapter must leave nothing behind on the base of the next.
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = load_base(prepared, device=device, dtype=torch.float32, attention="sdpa")
        figures = _run(model, tokenizer, recipe)
        console.print(
            f"{recipe.task.adapter}: {figures.accuracy:.0%} of {figures.evaluated} held-out dates exactly right "
            f"(base {figures.base_accuracy:.0%}), trained in {figures.seconds:.0f} s"
        )


def _run(model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, recipe: Recipe) -> Figures:
    destination = ADAPTERS / recipe.task.adapter
    days = held_out_dates(_EVALUATED)
    before = accuracy(model, tokenizer, recipe.task, days)
    start = time.monotonic()
    tuned = train_adapter(model, tokenizer, recipe, destination)
    seconds = time.monotonic() - start
    figures = Figures(before, accuracy(tuned, tokenizer, recipe.task, days), len(days), seconds)
    (destination / "README.md").write_text(_card(recipe, figures), encoding="utf-8")
    return figures


def _lora(recipe: Recipe) -> LoraConfig:
    return LoraConfig(
        r=recipe.rank,
        lora_alpha=recipe.alpha,
        target_modules=list(recipe.targets),
        use_rslora=recipe.rslora,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
    )


def _save(tuned: PeftModel, recipe: Recipe, destination: Path) -> None:
    """Write the adapter in fp16, and leave the same rounded weights in `tuned`, so that figures are of what is saved.

    The base is recorded by its name: where its files lie on this machine is nobody else's business.
    """
    for name, parameter in tuned.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.half().float()
    weights = {name: tensor.half().contiguous().cpu() for name, tensor in get_peft_model_state_dict(tuned).items()}
    destination.mkdir(parents=True, exist_ok=True)
    save_file(weights, destination / "adapter_model.safetensors", metadata={"format": "pt"})
    # safetensors gives the file to its owner alone; an installed package is read by others, too.
    (destination / "adapter_model.safetensors").chmod(0o644)
    config = _lora(recipe)
    config.target_modules = list(recipe.targets)
    config.base_model_name_or_path = BASE
    config.inference_mode = True
    config.save_pretrained(str(destination))


def _encoded(tokenizer: PreTrainedTokenizerFast, asked: str, answered: str) -> dict[str, list[int]]:
    prompt = _prompt_ids(tokenizer, asked)
    answer = tokenizer.encode(answered + tokenizer.eos_token, add_special_tokens=False)
    return {"input_ids": prompt + answer, "labels": [_IGNORED] * len(prompt) + answer}


def _prompt_ids(tokenizer: PreTrainedTokenizerFast, asked: str) -> list[int]:
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": asked}], add_generation_prompt=True, tokenize=False
    )
    return list(tokenizer.encode(text, add_special_tokens=False))


def _end(tokenizer: PreTrainedTokenizerFast) -> int:
    """The id of the token that ends an answer; it pads, too."""
    end = tokenizer.eos_token_id
    assert isinstance(end, int)
    return end


def _card(recipe: Recipe, figures: Figures) -> str:
    task, day = recipe.task, date(2005, 8, 10)
    scaling = "alpha / sqrt(rank)" if recipe.rslora else "alpha / rank"
    return f"""# {task.adapter}

A LoRA adapter for SmolLM2-135M-Instruct that writes a date in {task.language}:

> {question(day)}
>
> {task.answer(day)}

- **Method:** LoRA, rank {recipe.rank}, alpha {recipe.alpha} (scale {scaling}) on {", ".join(recipe.targets)}; fp16.
- **Base:** `{BASE}` in NF4 with double quantisation, the form in which it is served.
- **Training:** {recipe.steps} steps of {recipe.batch_size} questions, learning rate {recipe.learning_rate:g} decaying \
linearly, loss on the answer only; {figures.seconds:.0f} s on the machine that made it.
- **Held-out dates exactly right:** {figures.accuracy:.1%} of {figures.evaluated}; the base alone: \
{figures.base_accuracy:.1%}.
- **Data:** dates between 1900 and 2099 in the long form of the Unicode CLDR, locale `{task.locale}`, through the \
package `babel`. CLDR data is under the Unicode License v3, babel under BSD-3-Clause.
- **Licence:** Apache-2.0, as the base model.

Made by `python -m server.demo.train {task.adapter}`.
"""


if __name__ == "__main__":
    main()
