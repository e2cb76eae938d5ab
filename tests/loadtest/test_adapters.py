"""Random adapters are PEFT directories: PEFT itself loads them, and they change the answers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file
from transformers import LlamaConfig, LlamaForCausalLM

from adapters_store import AdapterStore, BaseDescription, parse_adapter_ref
from adapters_store.errors import StoreError
from loadtest.adapters import RANKS, RandomAdapter, layer_modules, published_adapters, random_adapters

LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return LlamaForCausalLM(config)


def describe(model: LlamaForCausalLM) -> BaseDescription:
    linears = {name: module for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    modules = {name: (module.out_features, module.in_features) for name, module in linears.items()}
    return BaseDescription(name="tiny", architecture="LlamaForCausalLM", modules=modules)


@pytest.fixture
def base() -> BaseDescription:
    return describe(tiny_llama())


def test_every_linear_of_every_layer_is_adapted_and_the_head_is_not(base: BaseDescription) -> None:
    assert "lm_head" in base.modules
    adapted = layer_modules(base.modules)
    assert len(adapted) == 2 * len(LINEARS)
    assert {name.rsplit(".", 1)[-1] for name in adapted} == set(LINEARS)


def test_a_base_without_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="decoder layers"):
        layer_modules({"lm_head": (8, 8)})


def test_ranks_cycle_and_names_differ() -> None:
    adapters = random_adapters(7)
    assert [adapter.rank for adapter in adapters] == [8, 16, 32, 8, 16, 32, 8]
    assert len({adapter.name for adapter in adapters}) == len({adapter.seed for adapter in adapters}) == 7


def test_equal_adapters_give_equal_files(base: BaseDescription, tmp_path: Path) -> None:
    adapter, other = random_adapters(2)
    for name, written in {"a": adapter, "b": adapter, "c": other}.items():
        written.write(tmp_path / name, base)
    first, again, different = ((tmp_path / name / "adapter_model.safetensors").read_bytes() for name in "abc")
    assert first == again
    assert first != different


@pytest.mark.parametrize("rank", RANKS)
def test_the_weights_are_half_precision_finite_and_not_zero(base: BaseDescription, tmp_path: Path, rank: int) -> None:
    RandomAdapter("one", rank, seed=3).write(tmp_path, base)
    tensors = load_file(tmp_path / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * len(LINEARS)
    for name, tensor in tensors.items():
        assert tensor.dtype == np.float16
        assert np.isfinite(tensor).all()
        assert np.abs(tensor).max() > 0
        assert rank in tensor.shape, name
    assert json.loads((tmp_path / "adapter_config.json").read_text())["r"] == rank


def test_peft_loads_the_directory_and_the_logits_change(tmp_path: Path) -> None:
    model = tiny_llama()
    RandomAdapter("one", 8, seed=3).write(tmp_path, describe(model))
    tokens = torch.arange(10)[None]
    with torch.inference_mode():
        before = model(tokens).logits
        adapted = PeftModel.from_pretrained(model, str(tmp_path))
        after = adapted(tokens).logits
    loaded = {name for name, _ in adapted.named_parameters() if "lora_B" in name}
    assert len(loaded) == 2 * len(LINEARS)
    assert torch.isfinite(after).all()
    assert not torch.allclose(before, after, atol=1e-4)


def test_published_adapters_are_found_by_their_digests(base: BaseDescription, tmp_path: Path) -> None:
    store = AdapterStore(tmp_path)
    store.describe_base(base)
    digests = published_adapters(tmp_path, random_adapters(3))
    assert len(set(digests.values())) == 3
    for name, digest in digests.items():
        assert store.resolve(parse_adapter_ref(name)).digest == digest


def test_a_store_whose_base_nobody_described_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="which base"):
        published_adapters(tmp_path, random_adapters(1))
