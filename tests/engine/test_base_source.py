"""What `--base` may name, and what is refused before any weight is read."""

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import GatedRepoError, LocalEntryNotFoundError, RepositoryNotFoundError

from server.engine.base_model import prepare_base
from server.engine.base_progress import SilentProgress
from server.engine.base_source import (
    DemoSource,
    DirectorySource,
    GgufSource,
    HubSource,
    check_checkpoint,
    parse_source,
    stored_quantization,
)
from server.errors import BaseModelError
from tests.tiny_models import write_tiny_model


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A directory that has every file a checkpoint needs; the weights are never read here."""
    directory = tmp_path / "checkpoint"
    directory.mkdir()
    (directory / "config.json").write_text('{"model_type": "llama"}')
    (directory / "tokenizer.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def hub_error(kind: Callable[..., Exception]) -> Exception:
    import httpx

    return kind("no", response=httpx.Response(404, request=httpx.Request("GET", "https://hub.invalid")))


def test_the_demo_model_is_named() -> None:
    assert isinstance(parse_source("smollm2-135m"), DemoSource)
    assert parse_source("smollm2-135m").name == "smollm2-135m"


def test_a_directory_goes_before_a_hub_id_of_the_same_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_source("org/model") == HubSource("org/model")
    (tmp_path / "org" / "model").mkdir(parents=True)
    assert parse_source("org/model") == DirectorySource(tmp_path / "org" / "model")


def test_a_gguf_file_is_told_by_its_first_bytes(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(b"GGUF....")
    assert parse_source(str(tmp_path / "weights.bin")) == GgufSource(tmp_path / "weights.bin")
    (tmp_path / "weights.gguf").write_bytes(b"PK..")
    with pytest.raises(BaseModelError, match="is not a GGUF file"):
        parse_source(str(tmp_path / "weights.gguf"))


@pytest.mark.parametrize("source", ["./nowhere", "/no/such/dir", "../up", "gone.gguf", "a/b/c", "", "-x", "a b"])
def test_what_is_neither_a_path_nor_a_hub_id_is_refused(source: str, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"no base model .* smollm2-135m") as refused:
        parse_source(source if source else str(tmp_path / "absent"))
    assert refused.value.param == "base"


@pytest.mark.parametrize(
    ("source", "name"),
    [("HuggingFaceTB/SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct"), ("gpt2", "gpt2"), ("o/x.y_z", "x.y_z")],
)
def test_a_hub_model_is_called_by_the_last_part_of_its_id(source: str, name: str) -> None:
    assert parse_source(source).name == name


def test_a_complete_directory_is_accepted(checkpoint: Path) -> None:
    check_checkpoint(checkpoint)
    assert stored_quantization(checkpoint) is None


def test_pickle_weights_are_refused(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "pytorch_model.bin")
    with pytest.raises(BaseModelError, match="pickle files"):
        check_checkpoint(checkpoint)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_missing_file_is_named(checkpoint: Path, name: str) -> None:
    (checkpoint / name).unlink()
    with pytest.raises(BaseModelError, match=name):
        check_checkpoint(checkpoint)


def test_every_shard_of_an_index_must_be_there(checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint / "one.safetensors")
    index = checkpoint / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "one.safetensors", "b": "two.safetensors"}}))
    with pytest.raises(BaseModelError, match=r"lacks the weight files two\.safetensors"):
        check_checkpoint(checkpoint)
    (checkpoint / "two.safetensors").touch()
    check_checkpoint(checkpoint)


@pytest.mark.parametrize("index", [{"weight_map": {"a": "../outside.safetensors"}}, {"weight_map": {"a": 1}}, {}])
def test_an_index_may_not_point_outside_its_directory(checkpoint: Path, index: dict[str, object]) -> None:
    (checkpoint / "model.safetensors").rename(checkpoint.parent / "outside.safetensors")
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(BaseModelError, match="plain file names"):
        check_checkpoint(checkpoint)


def test_an_adapter_is_told_from_a_base(checkpoint: Path) -> None:
    (checkpoint / "adapter_config.json").write_text("{}")
    with pytest.raises(BaseModelError, match="is a PEFT adapter"):
        check_checkpoint(checkpoint)


def test_a_directory_with_a_gguf_file_points_to_it(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"GGUF")
    with pytest.raises(BaseModelError, match="give --base the GGUF file itself"):
        check_checkpoint(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff"])
def test_a_damaged_config_is_named(checkpoint: Path, text: str) -> None:
    (checkpoint / "config.json").write_text(text, encoding="latin-1")
    with pytest.raises(BaseModelError, match=r"config\.json"):
        stored_quantization(checkpoint)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
def test_4bit_bitsandbytes_is_recognised(checkpoint: Path, kind: str) -> None:
    stored = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": kind}
    (checkpoint / "config.json").write_text(json.dumps({"quantization_config": stored}))
    assert stored_quantization(checkpoint) == kind


@pytest.mark.parametrize(
    ("stored", "named"),
    [
        ({"quant_method": "gptq", "bits": 4}, "'gptq'"),
        ({"quant_method": "awq"}, "'awq'"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "'8-bit bitsandbytes'"),
        ({"bits": 4}, "'unknown'"),
    ],
)
def test_other_quantisations_are_refused_by_name(checkpoint: Path, stored: dict[str, object], named: str) -> None:
    (checkpoint / "config.json").write_text(json.dumps({"quantization_config": stored}))
    with pytest.raises(BaseModelError, match=named):
        prepare_base(str(checkpoint), quantization="nf4", cache_dir=checkpoint.parent / "cache")


def test_a_hub_model_is_fetched_without_pickles_and_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: dict[str, list[str]] = {}
    snapshot = write_tiny_model("llama", tmp_path / "snapshots" / "c0ffee")

    def download(repository: str, *, allow_patterns: list[str], ignore_patterns: list[str]) -> str:
        assert repository == "org/tiny"
        asked.update(allow=allow_patterns, ignore=ignore_patterns)
        return str(snapshot)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    prepared = prepare_base("org/tiny", quantization="nf4", cache_dir=tmp_path / "cache")
    assert prepared.name == "tiny"
    assert sorted(asked["allow"]) == ["*.jinja", "*.json", "*.safetensors"]
    assert HubSource("org/tiny").identify(SilentProgress())["commit"] == "c0ffee"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (hub_error(GatedRepoError), "gated"),
        (hub_error(RepositoryNotFoundError), "has no repository 'org/tiny'"),
        (LocalEntryNotFoundError("no connection"), "Without a hub, give --base a directory"),
        (ConnectionError("refused"), "Without a hub, give --base a directory"),
    ],
)
def test_a_hub_that_cannot_help_is_explained(error: Exception, said: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(BaseModelError, match=said):
        parse_source("org/tiny").identify(SilentProgress())


def test_offline_mode_is_respected(tmp_path: Path) -> None:
    """The tests run with HF_HUB_OFFLINE=1: nothing is asked, and the message says so."""
    with pytest.raises(BaseModelError, match="HF_HUB_OFFLINE=1"):
        prepare_base("org/never-fetched", quantization="nf4", cache_dir=tmp_path)
