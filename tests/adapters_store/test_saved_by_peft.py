"""What PEFT itself saves over a small Llama: the store takes what is served and refuses the rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from peft.tuners.lora import LoraLayer
from transformers import LlamaConfig, LlamaForCausalLM

from adapters_store.base_description import BaseDescription
from adapters_store.errors import InvalidAdapter
from adapters_store.limits import Limits
from adapters_store.lora_config import read_lora_config
from adapters_store.metadata import AdapterMetadata
from adapters_store.module_patterns import MatchingDeadline
from adapters_store.validation import validate_adapter

pytestmark = [pytest.mark.filterwarnings("ignore::FutureWarning"), pytest.mark.filterwarnings("ignore::UserWarning")]

LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def tiny_llama() -> LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = LlamaConfig(
        vocab_size=64,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(sizes)


@pytest.fixture(scope="session")
def base() -> BaseDescription:
    modules = {
        name: (module.out_features, module.in_features)
        for name, module in tiny_llama().named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    return BaseDescription("org/tiny-llama", "LlamaForCausalLM", modules)


def save(directory: Path, config: Any, dtype: torch.dtype = torch.float32, **saving: Any) -> peft.PeftModel:
    torch.manual_seed(1)
    model: peft.PeftModel = peft.get_peft_model(tiny_llama(), config, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_" in name and parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
            parameter.data = parameter.data.to(dtype)
    model.save_pretrained(str(directory), **saving)
    return model


def lora(**fields: Any) -> peft.LoraConfig:
    defaults: dict[str, Any] = {"r": 4, "lora_alpha": 8, "target_modules": LINEAR, "task_type": "CAUSAL_LM"}
    return peft.LoraConfig(**{**defaults, **fields})


def validate(directory: Path, base: BaseDescription) -> AdapterMetadata:
    return validate_adapter(directory, base=base, limits=Limits())


@pytest.mark.parametrize(
    ("config", "ranks"),
    [
        (lambda: lora(), {4: 14}),
        (lambda: lora(use_rslora=True, target_modules="all-linear"), {4: 14}),
        (lambda: lora(target_modules=["q_proj", "lm_head"]), {4: 3}),
        (lambda: lora(target_modules=r".*layers\.1\..*(q|v)_proj"), {4: 2}),
        (lambda: lora(target_modules=["q_proj"], layers_to_transform=[1]), {4: 1}),
        (lambda: lora(exclude_modules=["mlp.up_proj"]), {4: 12}),
        (lambda: lora(target_modules=None), {4: 4}),
        (lambda: lora(init_lora_weights="gaussian"), {4: 14}),
        (lambda: lora(init_lora_weights="orthogonal"), {4: 14}),
        (lambda: lora(init_lora_weights="mica"), {4: 14}),
        (
            lambda: lora(
                rank_pattern={"q_proj": 8, r"^model\.layers\.0\.mlp.*": 2, "mlp.down_proj": 16},
                alpha_pattern={"o_proj": 1},
            ),
            {2: 3, 4: 8, 8: 2, 16: 1},
        ),
    ],
)
def test_every_plain_lora_is_taken_as_it_is(
    tmp_path: Path, base: BaseDescription, config: Callable[[], peft.LoraConfig], ranks: dict[int, int]
) -> None:
    save(tmp_path, config(), save_embedding_layers=False)
    metadata = validate(tmp_path, base)
    assert metadata.modules_by_rank == ranks
    assert metadata.warnings == ()


@pytest.mark.parametrize(("dtype", "name"), [(torch.float16, "F16"), (torch.bfloat16, "BF16")])
def test_half_precision_is_taken(tmp_path: Path, base: BaseDescription, dtype: torch.dtype, name: str) -> None:
    save(tmp_path, lora(), dtype)
    metadata = validate(tmp_path, base)
    assert metadata.dtype == name
    assert metadata.tensor_bytes == 2 * metadata.parameters


def test_double_precision_is_refused(tmp_path: Path, base: BaseDescription) -> None:
    save(tmp_path, lora(), torch.float64)
    with pytest.raises(InvalidAdapter, match="F64"):
        validate(tmp_path, base)


def test_scales_are_pefts_own(tmp_path: Path) -> None:
    patterns: dict[str, Any] = {
        "rank_pattern": {"q_proj": 8, "layers.0.mlp.down_proj": 2},
        "alpha_pattern": {r".*\.1\..*": 3, "q_proj": 5},
    }
    for use_rslora in (False, True):
        model = save(tmp_path / str(use_rslora), lora(use_rslora=use_rslora, **patterns))
        ours = read_lora_config({"r": 4, "lora_alpha": 8, "use_rslora": use_rslora, **patterns})
        theirs = {
            name.removeprefix("base_model.model."): module.scaling["default"]
            for name, module in model.named_modules()
            if isinstance(module, LoraLayer)
        }
        assert len(theirs) == 14
        assert {name: ours.scale_of(name, MatchingDeadline()) for name in theirs} == pytest.approx(theirs)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (lambda: lora(use_dora=True), "use_dora"),
        (lambda: lora(modules_to_save=["lm_head"]), "modules_to_save"),
        (lambda: lora(trainable_token_indices=[1, 2]), "trainable_token_indices"),
        (lambda: lora(bias="lora_only"), "bias"),
        (lambda: lora(lora_bias=True), "lora_bias"),
        (lambda: lora(layer_replication=[[0, 2], [0, 2]]), "layer_replication"),
        (lambda: lora(init_lora_weights="pissa"), "init_lora_weights"),
        (lambda: lora(init_lora_weights="olora"), "init_lora_weights"),
        (lambda: lora(task_type="FEATURE_EXTRACTION"), "task_type"),
        (lambda: peft.IA3Config(task_type="CAUSAL_LM"), "peft_type"),
        (lambda: peft.VeraConfig(r=4, target_modules=["q_proj"]), "peft_type"),
        (lambda: peft.PromptTuningConfig(num_virtual_tokens=4, task_type="CAUSAL_LM"), "peft_type"),
    ],
)
def test_what_is_not_served_is_refused_by_its_field(
    tmp_path: Path, base: BaseDescription, config: Callable[[], peft.PeftConfig], field: str
) -> None:
    save(tmp_path, config())
    with pytest.raises(InvalidAdapter) as refusal:
        validate(tmp_path, base)
    assert refusal.value.param == field


def test_an_adapter_on_the_embedding_is_refused(tmp_path: Path, base: BaseDescription) -> None:
    save(tmp_path, lora(target_modules=["embed_tokens", "q_proj"]), save_embedding_layers=False)
    with pytest.raises(InvalidAdapter, match="adapters on embeddings are not served"):
        validate(tmp_path, base)


def test_a_copy_of_the_bases_head_beside_its_adapter_is_refused_with_the_fix(
    tmp_path: Path, base: BaseDescription
) -> None:
    save(tmp_path, lora(target_modules=["lm_head"]))
    with pytest.raises(InvalidAdapter, match="save_embedding_layers=False"):
        validate(tmp_path, base)


def test_pissa_is_taken_once_it_is_converted(tmp_path: Path, base: BaseDescription) -> None:
    config = lora(init_lora_weights="pissa")
    model = peft.get_peft_model(tiny_llama(), config)
    config.init_lora_weights = True
    model.save_pretrained(str(tmp_path / "initial"))
    config.init_lora_weights = "pissa"
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data += 0.01
    model.save_pretrained(str(tmp_path / "raw"))
    model.save_pretrained(
        str(tmp_path / "converted"), path_initial_model_for_weight_conversion=str(tmp_path / "initial")
    )
    with pytest.raises(InvalidAdapter, match="path_initial_model_for_weight_conversion"):
        validate(tmp_path / "raw", base)
    assert validate(tmp_path / "converted", base).modules_by_rank == {8: 14}
