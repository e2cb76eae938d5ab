"""What a fine-tuning job is to do: the values that the API validates, the database keeps, and a worker obeys.

Imports no torch: the API process reads and writes these.
"""

from typing import Any, Literal

import msgspec

PeftMethod = Literal[
    "lora",
    "qlora",
    "dora",
    "qdora",
    "rslora",
    "pissa",
    "olora",
    "loftq",
    "eva",
    "adalora",
    "vera",
    "ia3",
    "prompt",
    "prefix",
    "p-tuning",
]
Preset = Literal["style", "instruction", "code", "reasoning"]


class PeftSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which parameters are trained. None takes the preset's or the method's default.

    `rank_pattern` and `alpha_pattern` map a module's name, or the end of one, to what differs there. `init` is PEFT's
    `init_lora_weights`. `virtual_tokens` is for prompt, prefix and p-tuning.
    """

    method: PeftMethod = "lora"
    preset: Preset | None = None
    r: int | None = None
    alpha: float | None = None
    dropout: float | None = None
    target_modules: tuple[str, ...] | None = None
    rank_pattern: dict[str, int] = {}
    alpha_pattern: dict[str, float] = {}
    init: str | None = None
    virtual_tokens: int | None = None


class Hyperparameters(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How they are trained. None is "auto": the recipe decides from the data and the preset.

    `batch_size` is the effective one: rows per optimiser step, of `micro_batch_size` at a time. `learning_rate` wins
    over `learning_rate_multiplier`. Lengths are in tokens, ratios are of the steps, `general_share` is the part of the
    examples that comes from the general texts. `early_stopping` counts evaluations without improvement; 0 is off.
    """

    n_epochs: float | None = None
    max_steps: int | None = None
    batch_size: int | None = None
    micro_batch_size: int | None = None
    learning_rate: float | None = None
    learning_rate_multiplier: float | None = None
    layer_decay: float = 1.0
    warmup_ratio: float | None = None
    weight_decay: float | None = None
    max_grad_norm: float = 1.0
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    optimizer: Literal["auto", "adamw", "adamw_8bit", "paged_adamw_8bit"] = "auto"
    max_length: int | None = None
    packing: bool = True
    gradient_checkpointing: bool = False
    general_share: float = 0.0
    mixing_exponent: float = 0.7
    mixing_cap: int | None = None
    early_stopping: int = 0
    evaluations: int | None = None
    beta: float = 0.1


class GateSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a trained adapter must reach to be published.

    `at_least` and `at_most` map a metric of the evaluation to its bound. `beats_base` names metrics in which it must be
    better than the bare base. `max_forgetting` bounds the rise of perplexity on general text, as a ratio (0.1: +10 %).
    """

    at_least: dict[str, float] = {}
    at_most: dict[str, float] = {}
    beats_base: tuple[str, ...] = ("loss",)
    max_forgetting: float | None = None


class TrainingSource(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of examples: the first is OpenAI's `training_file`, others are further tasks that are mixed in."""

    file_id: str
    task: str = "main"
    weight: float | None = None


class JobSpec(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One job, complete: the same spec on the same base with the same files gives the same adapter.

    `adapter` is the name under which the result is published, `alias` what then points to it. `scorers` are metrics
    beside the loss: names of built-in ones or of entry points in the group `switchyard.scorers`. `max_examples` and
    `max_new_tokens` bound the generation of the evaluation.
    """

    base: str
    adapter: str
    sources: tuple[TrainingSource, ...]
    alias: str = "latest"
    validation_file: str | None = None
    validation_share: float = 0.1
    objective: Literal["supervised", "dpo"] = "supervised"
    seed: int = 0
    peft: PeftSpec = PeftSpec()
    hyperparameters: Hyperparameters = Hyperparameters()
    gate: GateSpec = GateSpec()
    scorers: tuple[str, ...] = ()
    evaluation_examples: int = 64
    evaluation_new_tokens: int = 64
    suffix: str | None = None
    metadata: dict[str, str] = {}
    report_to: tuple[Literal["tensorboard", "mlflow"], ...] = ()


def encode_spec(spec: JobSpec) -> dict[str, Any]:
    """A spec as JSON values, for the database and for answers."""
    encoded: dict[str, Any] = msgspec.to_builtins(spec)
    return encoded


def decode_spec(encoded: dict[str, Any]) -> JobSpec:
    """A spec from its JSON values.

    Raises:
        msgspec.ValidationError: they are of another version of this server, or were changed by hand.
    """
    return msgspec.convert(encoded, JobSpec)
