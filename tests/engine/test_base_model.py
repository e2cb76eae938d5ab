"""From what `--base` names to a loaded model."""

import json
import logging
import shutil
from pathlib import Path
from typing import cast

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from server.config import default_cache_dir
from server.engine import base_cache, base_model
from server.engine.base_model import PreparedBase, linear_modules, load_base, prepare_base
from server.engine.base_source import Quantization
from server.errors import BaseModelError
from server.kernels.quantised_linear import Linear4bit, Params4bit, optional_kernel_silenced
from tests.engine.tiny_gguf import write_tiny_gguf
from tests.tiny_models import CONFIGS, write_tiny_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model("llama", tmp_path_factory.mktemp("models") / "Tiny Llama")


@pytest.fixture(scope="module")
def prepared(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> PreparedBase:
    return prepare_base(str(llama), quantization="nf4", cache_dir=tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def demo_base() -> PreparedBase:
    return prepare_base("smollm2-135m", quantization="nf4", cache_dir=default_cache_dir())


def copy_of(directory: Path, destination: Path) -> Path:
    shutil.copytree(directory, destination)
    return destination


def logits(directory: Path, prepared: PreparedBase) -> tuple[torch.Tensor, torch.Tensor]:
    """[1, tokens, vocabulary] of the dense checkpoint and of the prepared base."""
    ids = torch.arange(40).unsqueeze(0)
    dense = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager")
    base = load_base(prepared, device=CPU, dtype=torch.float32, attention="eager")
    with torch.inference_mode():
        return dense(ids).logits, base(ids).logits


@pytest.mark.parametrize("quantization", ["nf4", "fp4"])
def test_a_directory_becomes_a_4bit_checkpoint_with_its_tokenizer(
    llama: Path, tmp_path: Path, quantization: Quantization
) -> None:
    prepared = prepare_base(str(llama), quantization=quantization, cache_dir=tmp_path)
    assert prepared.name == "Tiny-Llama"
    assert prepared.quantization == quantization
    assert prepared.directory.is_relative_to(tmp_path)
    stored = json.loads((prepared.directory / "config.json").read_text())["quantization_config"]
    assert (stored["bnb_4bit_quant_type"], stored["bnb_4bit_use_double_quant"]) == (quantization, True)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(prepared.directory)
    assert tokenizer.chat_template == AutoTokenizer.from_pretrained(llama).chat_template
    assert tokenizer.decode(tokenizer.encode("réseau")) == "réseau"


def test_a_dense_directory_is_used_where_it_lies(llama: Path, tmp_path: Path) -> None:
    prepared = prepare_base(str(llama), quantization="none", cache_dir=tmp_path)
    assert prepared == PreparedBase("Tiny-Llama", llama, "none")
    assert list(tmp_path.iterdir()) == []
    expected, given = logits(llama, prepared)
    torch.testing.assert_close(given, expected)


def test_a_directory_stored_in_4bit_is_used_where_it_lies(prepared: PreparedBase, tmp_path: Path) -> None:
    again = prepare_base(str(prepared.directory), quantization="fp4", cache_dir=tmp_path)
    assert (again.directory, again.quantization) == (prepared.directory, "nf4")


def test_the_4bit_model_computes_with_the_dequantised_weights(llama: Path, prepared: PreparedBase) -> None:
    base = load_base(prepared, device=CPU, dtype=torch.float32, attention="sdpa")
    dense = AutoModelForCausalLM.from_pretrained(llama, dtype=torch.float32)
    quantised = 0
    for name, module in base.named_modules():
        if isinstance(module, Linear4bit):
            weight = dequantize_4bit(module.weight.data, cast(Params4bit, module.weight).quant_state)
            assert weight.dtype == torch.float32
            # NF4's widest gap is 0.30 of a block's largest weight; nearest neighbours are at most half of it away.
            plain = cast(nn.Linear, dense.get_submodule(name))
            assert (weight - plain.weight).abs().max() <= 0.17 * weight.abs().max()
            plain.weight.data = weight
            quantised += 1
    assert quantised == 7 * base.config.num_hidden_layers
    ids = torch.arange(40).unsqueeze(0)
    with torch.inference_mode():
        torch.testing.assert_close(base(ids).logits, dense(ids).logits, rtol=1e-4, atol=1e-4)


def test_the_head_and_tied_embeddings_stay_unquantised(llama: Path, prepared: PreparedBase) -> None:
    base = load_base(prepared, device=CPU, dtype=torch.float32, attention="sdpa")
    stored = load_file(llama / "model.safetensors")["model.embed_tokens.weight"]
    embedding, head = base.get_parameter("model.embed_tokens.weight"), base.get_parameter("lm_head.weight")
    assert torch.equal(embedding, stored)
    assert head is embedding


def test_a_loaded_base_is_for_inference_with_the_attention_and_dtype_asked_for(prepared: PreparedBase) -> None:
    base = load_base(prepared, device=CPU, dtype=torch.bfloat16, attention="eager")
    assert not base.training
    assert not any(parameter.requires_grad for parameter in base.parameters())
    assert base.config._attn_implementation == "eager"
    assert base.get_input_embeddings().weight.dtype == torch.bfloat16
    kinds = {module.compute_dtype for module in base.modules() if isinstance(module, Linear4bit)}
    assert kinds == {torch.bfloat16}


@pytest.mark.parametrize("kind", sorted(CONFIGS))
def test_every_promised_architecture_is_prepared_and_loaded(kind: str, tmp_path: Path) -> None:
    directory = write_tiny_model(kind, tmp_path / kind)
    prepared = prepare_base(str(directory), quantization="nf4", cache_dir=tmp_path / "cache")
    expected, given = logits(directory, prepared)
    assert given.shape == expected.shape
    assert torch.isfinite(given).all()
    # 4-bit noise moves the logits of a random model, but they remain this model's.
    assert torch.corrcoef(torch.stack([given.flatten(), expected.flatten()]))[0, 1] > 0.7


def test_linear_modules_name_every_projection_and_the_head(llama: Path, prepared: PreparedBase) -> None:
    dense = linear_modules(AutoModelForCausalLM.from_pretrained(llama))
    quantised = linear_modules(load_base(prepared, device=CPU, dtype=torch.float32, attention="sdpa"))
    assert quantised == dense
    assert len(quantised) == 7 * 3 + 1
    assert quantised["model.layers.2.self_attn.k_proj"] == (32, 64)
    assert quantised["model.layers.0.mlp.down_proj"] == (64, 128)
    assert quantised["lm_head"] == (260, 64)


def test_a_gguf_file_keeps_its_weights_and_tokenizer(tmp_path: Path) -> None:
    written = write_tiny_gguf(tmp_path / "Tiny.F32.gguf")
    prepared = prepare_base(str(tmp_path / "Tiny.F32.gguf"), quantization="none", cache_dir=tmp_path / "cache")
    assert (prepared.name, prepared.quantization) == ("Tiny.F32", "none")
    base = load_base(prepared, device=CPU, dtype=torch.float32, attention="sdpa")
    weights = base.state_dict()
    for name, weight in written.state_dict().items():
        torch.testing.assert_close(weights[name], weight, msg=name)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(prepared.directory)
    assert tokenizer.decode(tokenizer.encode("réseau", add_special_tokens=False)) == "réseau"
    assert tokenizer.chat_template is not None


def test_a_gguf_file_becomes_4bit_and_leaves_no_dense_copy(tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "tiny.gguf")
    prepared = prepare_base(str(tmp_path / "tiny.gguf"), quantization="nf4", cache_dir=tmp_path / "cache")
    assert load_base(prepared, device=CPU, dtype=torch.float32, attention="sdpa").is_loaded_in_4bit
    kept = {path.name for path in (tmp_path / "cache" / "bases").iterdir()}
    assert kept == {prepared.directory.name, prepared.directory.name + ".lock"}


def test_the_second_call_converts_nothing(llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = prepare_base(str(llama), quantization="nf4", cache_dir=tmp_path)
    monkeypatch.setattr(base_model, "save_quantised", None)
    assert prepare_base(str(llama), quantization="nf4", cache_dir=tmp_path) == first


def test_a_changed_source_or_library_is_converted_anew(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = copy_of(llama, tmp_path / "source")
    seen = {prepare_base(str(source), quantization="nf4", cache_dir=tmp_path / "cache").directory}
    write_tiny_model("llama", source, seed=1)
    seen.add(prepare_base(str(source), quantization="nf4", cache_dir=tmp_path / "cache").directory)
    monkeypatch.setattr(base_cache, "library_versions", lambda: {"torch": "99"})
    seen.add(prepare_base(str(source), quantization="nf4", cache_dir=tmp_path / "cache").directory)
    assert len(seen) == 3


def test_an_interrupted_conversion_leaves_nothing_half_done(
    llama: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(source: Path, destination: Path, *_: object) -> Path:
        destination.mkdir()
        (destination / "config.json").write_text("{}")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(base_model, "save_quantised", interrupted)
        with pytest.raises(KeyboardInterrupt):
            prepare_base(str(llama), quantization="nf4", cache_dir=tmp_path)
    assert [path for path in (tmp_path / "bases").iterdir() if path.is_dir()] == []
    prepared = prepare_base(str(llama), quantization="nf4", cache_dir=tmp_path)
    assert load_base(prepared, device=CPU, dtype=torch.float32, attention="sdpa").is_loaded_in_4bit


def test_missing_weights_are_refused_instead_of_made_up(llama: Path, tmp_path: Path) -> None:
    source = copy_of(llama, tmp_path / "source")
    weights = load_file(source / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(BaseModelError, match=r"model\.layers\.1\.mlp\.up_proj\.weight"):
        prepare_base(str(source), quantization="nf4", cache_dir=tmp_path / "cache")
    dense = prepare_base(str(source), quantization="none", cache_dir=tmp_path / "cache")
    with pytest.raises(BaseModelError, match="lacks 1 weights"):
        load_base(dense, device=CPU, dtype=torch.float32, attention="sdpa")


def test_truncated_weights_are_an_error_that_names_the_directory(llama: Path, tmp_path: Path) -> None:
    source = copy_of(llama, tmp_path / "source")
    weights = (source / "model.safetensors").read_bytes()
    (source / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    with pytest.raises(BaseModelError, match=f"cannot load {source}"):
        prepare_base(str(source), quantization="nf4", cache_dir=tmp_path / "cache")


def test_a_damaged_gguf_file_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "damaged.gguf"
    path.write_bytes(b"GGUF" + bytes(64))
    with pytest.raises(BaseModelError, match=f"cannot convert {path}"):
        prepare_base(str(path), quantization="nf4", cache_dir=tmp_path / "cache")


def test_only_the_warning_about_the_optional_kernel_is_silenced(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    warning = "Failed to load CPU gemm_4bit_forward from kernels-community: %s"
    with optional_kernel_silenced():
        logger.warning(warning, "no module named kernels")
        logger.warning("another warning")
    logger.warning(warning, "after")
    assert [record.message for record in caplog.records] == ["another warning", warning % "after"]


@pytest.mark.demo_model
@pytest.mark.slow
def test_the_demo_model_knows_the_capital_of_france(demo_base: PreparedBase) -> None:
    base = load_base(demo_base, device=CPU, dtype=torch.float32, attention="sdpa")
    tokenizer = PreTrainedTokenizerFast.from_pretrained(demo_base.directory)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    output = base.generate(**prompt, max_new_tokens=8, do_sample=False)  # type: ignore[operator]
    assert "Paris" in tokenizer.decode(output[0])
    assert len(linear_modules(base)) == 211
