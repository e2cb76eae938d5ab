"""Architectures that the step loop can run, and why the others are refused."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    BertConfig,
    BloomConfig,
    DeepseekV3Config,
    Gemma3Config,
    GptOssConfig,
    Llama4TextConfig,
    MambaConfig,
    PreTrainedConfig,
    Qwen3NextConfig,
    T5Config,
    ViTConfig,
)

from server.engine.base_compatibility import causal_model_class
from server.engine.base_model import load_base, prepare_base
from server.errors import BaseModelError
from tests.tiny_models import CONFIGS, tiny_tokenizer

REFUSED: dict[str, tuple[Callable[[], PreTrainedConfig], str]] = {
    "encoder-decoder": (T5Config, "encoder-decoder"),
    "multi-modal": (Gemma3Config, "multi-modal"),
    "not a language model": (ViTConfig, "no causal language model"),
    "bidirectional": (BertConfig, "both directions"),
    "state space": (MambaConfig, "recurrent state"),
    "linear attention": (Qwen3NextConfig, "recurrent state|linear_attention"),
    "chunked attention": (Llama4TextConfig, "chunked_attention"),
    "own attention code": (BloomConfig, "attention interface"),
    "latent attention": (DeepseekV3Config, "latent attention"),
}


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_the_promised_architectures_are_accepted(kind: str) -> None:
    config = CONFIGS[kind]()
    assert causal_model_class(config).__name__.endswith("ForCausalLM")


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_cannot_work_is_refused_with_the_reason(kind: str) -> None:
    make, reason = REFUSED[kind]
    with pytest.raises(BaseModelError, match=reason) as refused:
        causal_model_class(make())
    assert make().model_type in refused.value.message


def test_the_reason_is_given_before_anything_is_converted(tmp_path: Path) -> None:
    source = tmp_path / "t5"
    T5Config().save_pretrained(source)
    tiny_tokenizer().save_pretrained(source)
    (source / "model.safetensors").write_bytes(b"never read")
    with pytest.raises(BaseModelError, match="encoder-decoder"):
        prepare_base(str(source), quantization="nf4", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_code_that_a_checkpoint_brings_along_is_never_run(tmp_path: Path) -> None:
    source = tmp_path / "own-code"
    source.mkdir()
    tiny_tokenizer().save_pretrained(source)
    (source / "model.safetensors").write_bytes(b"never read")
    (source / "config.json").write_text(
        '{"model_type": "surprise", "auto_map": {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}}'
    )
    (source / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()")
    with pytest.raises(BaseModelError, match="cannot read the configuration"):
        prepare_base(str(source), quantization="none", cache_dir=tmp_path / "cache")
    assert not (tmp_path / "ran").exists()


def test_attention_sinks_are_found_in_the_weights(tmp_path: Path) -> None:
    from transformers import GptOssForCausalLM

    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 32,
        "head_dim": 8,
        "num_local_experts": 2,
        "num_experts_per_tok": 1,
    }
    config = GptOssConfig(
        **sizes, vocab_size=260, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0
    )
    GptOssForCausalLM(config).save_pretrained(tmp_path / "sinks")
    tiny_tokenizer().save_pretrained(tmp_path / "sinks")
    prepared = prepare_base(str(tmp_path / "sinks"), quantization="none", cache_dir=tmp_path / "cache")
    with pytest.raises(BaseModelError, match="learnt sinks"):
        load_base(prepared, device=torch.device("cpu"), dtype=torch.float32, attention="eager")
