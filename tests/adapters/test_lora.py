"""LoRA into the normal form, as PEFT itself understands the files that it saves."""

import copy
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors.torch import load_file
from torch import nn
from transformers import AutoModelForCausalLM

from adapters_store.errors import InvalidAdapter
from server.adapters.lora import read_lora
from server.adapters.normal_form import NormalForm
from server.engine.base_model import linear_modules
from tests.adapters.peft_directory import read_directory
from tests.tiny_models import write_tiny_model

MODULES = {"layers.0.proj": (6, 4), "layers.1.proj": (4, 6)}
PATTERNS = ("q_proj", "down_proj", r"layers\.1\..*", r"model\.layers\.0\.mlp\.(up|down)_proj", "proj", r".*v_proj")
TARGETS: tuple[list[str] | str, ...] = (
    ["q_proj"],
    ["k_proj", "down_proj"],
    r".*layers\.[12]\..*(v|o|gate)_proj",
    "all-linear",
    ["model.layers.0.self_attn.o_proj", "lm_head"],
)


# PEFT writes patterns in the order of their names; where two match one module, it cannot read back any other order.
patterns = st.dictionaries(st.sampled_from(PATTERNS), st.integers(1, 64), max_size=3).map(
    lambda values: dict(sorted(values.items()))
)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> nn.Module:
    """A tiny Llama that has linears of four shapes."""
    directory = write_tiny_model("llama", tmp_path_factory.mktemp("base"))
    model: nn.Module = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    return model


def saved(base: nn.Module, directory: Path, config: Mapping[str, Any], *, seed: int = 0) -> Path:
    """A random adapter with this LoRA configuration, saved by PEFT."""
    torch.manual_seed(seed)
    model = get_peft_model(copy.deepcopy(base), LoraConfig(task_type="CAUSAL_LM", **config))
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(str(directory), save_embedding_layers=False)
    return directory


def peft_deltas(base: nn.Module, directory: Path) -> Iterator[tuple[str, torch.Tensor]]:
    """What PEFT would add to each weight of the base."""
    model = PeftModel.from_pretrained(copy.deepcopy(base), directory)
    for name, module in model.get_base_model().named_modules():
        if isinstance(module, LoraLayer):
            yield name, module.get_delta_weight("default")  # type: ignore[attr-defined]


def product(form: NormalForm, module: str) -> torch.Tensor:
    """B A of a module, with its scale."""
    linear = form.to(torch.device("cpu"), torch.float32).linears[module]
    assert linear.a is not None
    assert linear.b is not None
    return linear.scale * (linear.b @ linear.a)


@given(
    config=st.fixed_dictionaries(
        {
            "r": st.integers(1, 64),
            "lora_alpha": st.integers(-8, 64),
            "use_rslora": st.booleans(),
            "target_modules": st.sampled_from(TARGETS),
            "rank_pattern": patterns,
            "alpha_pattern": patterns,
        }
    )
)
@settings(max_examples=25, deadline=None)
def test_b_times_a_is_what_peft_adds_to_the_weight(base: nn.Module, config: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        directory = saved(base, Path(scratch), config)
        form = read_directory(directory, linear_modules(base))
        deltas = dict(peft_deltas(base, directory))
    assert set(form.linears) == set(deltas) != set()
    for module, delta in deltas.items():
        largest = max(1.0, float(delta.abs().max()))
        assert float((product(form, module) - delta).abs().max()) <= 1e-6 * largest


def test_the_form_has_the_true_rank_of_each_module_and_nothing_but_factors(base: nn.Module, tmp_path: Path) -> None:
    config = {"r": 8, "target_modules": ["q_proj", "v_proj"], "rank_pattern": {"v_proj": 3}}
    form = read_directory(saved(base, tmp_path, config), linear_modules(base))
    for name, linear in form.linears.items():
        assert linear.a is not None
        assert linear.a.shape[0] == (3 if name.endswith("v_proj") else 8)
        assert linear.in_scale is linear.out_scale is linear.bias is None
    assert form.rank == 8


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_factors_are_scaled_in_fp32(dtype: torch.dtype) -> None:
    tensors = {key: tensor.to(dtype) for key, tensor in pair("layers.0.proj").items()}
    stored = read_lora({"r": 2, "lora_alpha": 0.1}, tensors, MODULES)
    assert {tensor.dtype for tensor in stored.linears["layers.0.proj"].tensors()} == {dtype}
    form = stored.to(torch.device("cpu"), torch.float32)
    a, b = tensors[key_of("layers.0.proj", "A")].float(), tensors[key_of("layers.0.proj", "B")].float()
    assert {tensor.dtype for tensor in form.linears["layers.0.proj"].tensors()} == {torch.float32}
    torch.testing.assert_close(product(form, "layers.0.proj"), b @ a * 0.05, rtol=1e-6, atol=1e-6)


def test_the_tensors_that_were_read_are_neither_copied_nor_changed() -> None:
    tensors = pair("layers.0.proj")
    before = {key: tensor.clone() for key, tensor in tensors.items()}
    form = read_lora({"r": 2, "lora_alpha": 16}, tensors, MODULES)
    form.to(torch.device("cpu"), torch.float32)
    assert form.linears["layers.0.proj"].a is tensors[key_of("layers.0.proj", "A")]
    assert form.linears["layers.0.proj"].b is tensors[key_of("layers.0.proj", "B")]
    assert all(torch.equal(before[key], tensor) for key, tensor in tensors.items())


def test_the_first_alpha_pattern_counts_that_matches_the_end_of_a_name_from_a_whole_part() -> None:
    tensors = pair("layers.0.proj") | pair("layers.1.proj", 4, 6)
    patterns = {"oj": 8, "1.proj": 4, "layers.1.proj": 16}
    form = read_lora({"r": 2, "lora_alpha": 2, "alpha_pattern": patterns}, tensors, MODULES)
    plain = read_lora({"r": 2, "lora_alpha": 2}, tensors, MODULES)
    torch.testing.assert_close(product(form, "layers.0.proj"), product(plain, "layers.0.proj"))
    torch.testing.assert_close(product(form, "layers.1.proj"), 2 * product(plain, "layers.1.proj"))


def key_of(module: str, factor: str) -> str:
    return f"base_model.model.{module}.lora_{factor}.weight"


def pair(module: str, out_features: int = 6, in_features: int = 4, rank: int = 2) -> dict[str, torch.Tensor]:
    """Random factors of a module, as PEFT names them."""
    generator = torch.Generator().manual_seed(rank)
    return {
        key_of(module, "A"): torch.randn(rank, in_features, generator=generator),
        key_of(module, "B"): torch.randn(out_features, rank, generator=generator),
    }


@pytest.mark.parametrize(("missing", "kept"), [("A", "B"), ("B", "A")])
def test_a_factor_without_its_pair_is_refused(missing: str, kept: str) -> None:
    tensors = {key_of("layers.0.proj", kept): pair("layers.0.proj")[key_of("layers.0.proj", kept)]}
    with pytest.raises(InvalidAdapter, match=rf"'layers\.0\.proj' lacks its lora_{missing}") as caught:
        read_lora({"r": 2}, tensors, MODULES)
    assert caught.value.param == "layers.0.proj"


@pytest.mark.parametrize(
    ("a", "b"),
    [
        pytest.param((2, 5), (6, 2), id="other inputs"),
        pytest.param((2, 4), (7, 2), id="other outputs"),
        pytest.param((2, 4), (6, 3), id="ranks of their own"),
        pytest.param((3, 4), (6, 3), id="another rank than configured"),
        pytest.param((4, 2), (2, 6), id="transposed"),
        pytest.param((8,), (6, 2), id="flat"),
        pytest.param((2, 4, 1), (6, 2, 1), id="of three dimensions"),
    ],
)
def test_factors_of_other_shapes_than_the_module_and_the_rank_are_refused(
    a: tuple[int, ...], b: tuple[int, ...]
) -> None:
    tensors = {key_of("layers.0.proj", "A"): torch.zeros(a), key_of("layers.0.proj", "B"): torch.zeros(b)}
    with pytest.raises(InvalidAdapter, match=r"\[6, 4\] in the base") as caught:
        read_lora({"r": 2}, tensors, MODULES)
    assert caught.value.param == "layers.0.proj"


@pytest.mark.parametrize(
    "key",
    [
        key_of("layers.7.proj", "A"),
        key_of("proj", "A"),
        "layers.0.proj.lora_A.weight",
        "base_model.model.layers.0.proj.lora_A.default.weight",
        "base_model.model.layers.0.proj.lora_A.bias",
        "base_model.model.layers.0.proj.lora_magnitude_vector",
        "base_model.model.layers.0.proj.lora_embedding_A",
    ],
)
def test_a_tensor_that_binds_to_no_linear_module_is_refused_by_name(key: str) -> None:
    with pytest.raises(InvalidAdapter, match="belongs to no linear module") as caught:
        read_lora({"r": 2}, pair("layers.0.proj") | {key: torch.zeros(2, 4)}, MODULES)
    assert caught.value.param == key


def test_a_dora_adapter_is_refused_instead_of_served_without_its_magnitude(base: nn.Module, tmp_path: Path) -> None:
    directory = saved(base, tmp_path, {"r": 2, "target_modules": ["q_proj"], "use_dora": True})
    tensors = load_file(directory / "adapter_model.safetensors")
    with pytest.raises(InvalidAdapter, match="lora_magnitude_vector"):
        read_lora({"r": 2}, tensors, linear_modules(base))
