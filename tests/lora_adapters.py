"""LoRA adapters that change what a model says, saved by PEFT itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

ALL_LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PHI3_LINEAR = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def write_lora(
    base: Path,
    directory: Path,
    *,
    seed: int,
    r: int = 8,
    targets: Sequence[str] | str = ALL_LINEAR,
    strength: float = 0.1,
    dtype: torch.dtype = torch.float32,
    **config: Any,
) -> Path:
    """Save a random adapter for the checkpoint `base`; `strength` is the spread of its B."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    wanted = targets if isinstance(targets, str) else list(targets)
    lora = LoraConfig(r=r, lora_alpha=2 * r, target_modules=wanted, task_type="CAUSAL_LM", **config)
    peft_model = get_peft_model(model, lora)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(parameter, std=strength)
            parameter.data = parameter.data.to(dtype)
    peft_model.save_pretrained(str(directory))
    return directory
