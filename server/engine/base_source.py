"""What `--base` may name: the demo model, a directory, a GGUF file or a hub id. Imports no torch.

A source is told from its spelling and the file system alone; `identify` then gives what its bytes depend on,
and `materialise` brings them onto this machine.
"""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from server.engine.base_progress import Progress
from server.engine.demo_model import DEMO_MODELS, DemoModel, fetch_demo_model
from server.errors import BaseModelError

__all__ = [
    "TOKENIZER_FILES",
    "BaseSource",
    "DemoSource",
    "DirectorySource",
    "GgufSource",
    "HubSource",
    "Quantization",
    "check_checkpoint",
    "parse_source",
    "stored_quantization",
]

Quantization = Literal["nf4", "fp4", "none"]

# What a checkpoint needs beside its weights and its `config.json`; all but the first may be absent.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_HUB_FILES = ("*.json", "*.jinja", "*.safetensors")
_HUB_NOT = ("*/*", "consolidated*")
_GGUF_MAGIC = b"GGUF"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_INDEX = "model.safetensors.index.json"
_WEIGHTS = "model.safetensors"


class BaseSource(Protocol):
    """One kind of source. `name` is what the base is called where nothing else is said."""

    @property
    def name(self) -> str: ...

    def identify(self, progress: Progress) -> dict[str, object]:
        """What the bytes of the source depend on, for a cache key; JSON values.

        Raises:
            BaseModelError: the source is not there, or cannot be read.
        """

    def materialise(self, *, cache_dir: Path, progress: Progress) -> Path:
        """A local checkpoint directory, or a GGUF file.

        Raises:
            BaseModelError: the source cannot be fetched.
        """


@dataclass(frozen=True)
class DemoSource:
    """A model named in `server.engine.demo_model`."""

    model: DemoModel

    @property
    def name(self) -> str:
        return self.model.name

    def identify(self, progress: Progress) -> dict[str, object]:  # noqa: ARG002
        return {"kind": "demo", "sha256": self.model.sha256}

    def materialise(self, *, cache_dir: Path, progress: Progress) -> Path:
        return fetch_demo_model(self.model, cache_dir=cache_dir, progress=progress)


@dataclass(frozen=True)
class GgufSource:
    """A GGUF file; its name is the file's."""

    path: Path

    @property
    def name(self) -> str:
        return _slug(self.path.stem)

    def identify(self, progress: Progress) -> dict[str, object]:  # noqa: ARG002
        return {"kind": "gguf", "path": str(self.path), "files": _stamps([self.path])}

    def materialise(self, *, cache_dir: Path, progress: Progress) -> Path:  # noqa: ARG002
        return self.path


@dataclass(frozen=True)
class DirectorySource:
    """A checkpoint directory in the transformers layout; its name is the directory's."""

    path: Path

    @property
    def name(self) -> str:
        return _slug(self.path.name)

    def identify(self, progress: Progress) -> dict[str, object]:  # noqa: ARG002
        files = sorted(file for pattern in _HUB_FILES for file in self.path.glob(pattern))
        return {"kind": "directory", "path": str(self.path), "files": _stamps(files)}

    def materialise(self, *, cache_dir: Path, progress: Progress) -> Path:  # noqa: ARG002
        return self.path


@dataclass(frozen=True)
class HubSource:
    """A repository on the model hub that `huggingface_hub` is configured for; its name is the last part of the id."""

    repository: str

    @property
    def name(self) -> str:
        return _slug(self.repository.rsplit("/", 1)[-1])

    def identify(self, progress: Progress) -> dict[str, object]:
        # The hub's own cache names the snapshot's directory by its commit, and answers from disk when offline.
        return {"kind": "hub", "repository": self.repository, "commit": self._snapshot(progress).name}

    def materialise(self, *, cache_dir: Path, progress: Progress) -> Path:  # noqa: ARG002
        return self._snapshot(progress)

    def _snapshot(self, progress: Progress) -> Path:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

        try:
            with progress.stage(f"Fetching {self.repository} from the model hub"):
                return Path(
                    snapshot_download(self.repository, allow_patterns=list(_HUB_FILES), ignore_patterns=list(_HUB_NOT))
                )
        except GatedRepoError as error:
            raise BaseModelError(
                f"{self.repository} is gated: accept its terms on the hub and set HF_TOKEN", param="base"
            ) from error
        except RepositoryNotFoundError as error:
            raise BaseModelError(
                f"the model hub has no repository {self.repository!r} (or HF_TOKEN may not see it)", param="base"
            ) from error
        except (HfHubHTTPError, OSError, ValueError) as error:
            raise BaseModelError(
                f"cannot fetch {self.repository!r} from a model hub: {_first_line(error)}. Without a hub, give --base "
                f"a directory, a GGUF file or one of {', '.join(sorted(DEMO_MODELS))}; with HF_HUB_OFFLINE=1 only what "
                "the hub's cache holds can be used",
                param="base",
            ) from error


def parse_source(source: str) -> BaseSource:
    """Tell what `source` names. A path that exists comes before a hub id of the same spelling.

    Raises:
        BaseModelError: it names nothing that could be a base model.
    """
    if source in DEMO_MODELS:
        return DemoSource(DEMO_MODELS[source])
    path = Path(source).expanduser()
    if path.is_dir():
        return DirectorySource(path.resolve())
    if path.is_file():
        return _file_source(path.resolve())
    if _HUB_ID.fullmatch(source) and not source.endswith(".gguf"):
        return HubSource(source)
    raise BaseModelError(
        f"no base model {source!r}: there is no such file or directory, it is not a hub id (owner/name), and the demo "
        f"models are {', '.join(sorted(DEMO_MODELS))}",
        param="base",
    )


def check_checkpoint(directory: Path) -> None:
    """Refuse a directory that cannot be a base: a missing file, or weights that only unpickling would read.

    Raises:
        BaseModelError: with the missing file and what to do.
    """
    if (directory / "adapter_config.json").exists():
        raise BaseModelError(
            f"{directory} is a PEFT adapter (it has an adapter_config.json): push it with `switchyard adapters push` "
            "and give --base its base model",
            param="base",
        )
    if not (directory / "config.json").is_file():
        hint = "; give --base the GGUF file itself" if any(directory.glob("*.gguf")) else ""
        raise BaseModelError(f"{directory} has no config.json{hint}", param="base")
    missing = [name for name in _weight_files(directory) if not (directory / name).is_file()]
    if missing:
        raise BaseModelError(f"{directory} lacks the weight files {', '.join(sorted(missing)[:4])}", param="base")
    if not (directory / "tokenizer.json").is_file():
        raise BaseModelError(
            f"{directory} has no tokenizer.json: a fast tokenizer is required. Save one with "
            "AutoTokenizer.from_pretrained(…).save_pretrained(…)",
            param="base",
        )


def stored_quantization(directory: Path) -> Quantization | None:
    """The 4-bit format in which the checkpoint is stored; None where it is not quantised.

    Raises:
        BaseModelError: it is quantised in a format that is not served (GPTQ, AWQ, FP8, 8-bit bitsandbytes, …).
    """
    config = read_config(directory)
    stored = config.get("quantization_config") or config.get("text_config", {}).get("quantization_config")
    if not stored:
        return None
    method = stored.get("quant_method", "unknown")
    if method == "bitsandbytes" and (stored.get("load_in_4bit") or stored.get("_load_in_4bit")):
        kind = stored.get("bnb_4bit_quant_type", "fp4")
        if kind == "nf4" or kind == "fp4":
            return kind  # type: ignore[no-any-return]
        method = f"bitsandbytes {kind}"
    elif method == "bitsandbytes":
        method = "8-bit bitsandbytes"
    raise BaseModelError(
        f"{directory} is quantised as {method!r}, which is not served: give the unquantised checkpoint (it is "
        "quantised to NF4 here), or one saved in 4-bit by bitsandbytes",
        param="base",
    )


def read_config(directory: Path) -> dict[str, Any]:
    """The checkpoint's `config.json`.

    Raises:
        BaseModelError: it is not a JSON object.
    """
    return _read_object(directory / "config.json")


def _file_source(path: Path) -> GgufSource:
    with path.open("rb") as handle:
        if handle.read(len(_GGUF_MAGIC)) == _GGUF_MAGIC:
            return GgufSource(path)
    raise BaseModelError(f"{path} is not a GGUF file: give a checkpoint's directory, or a GGUF file", param="base")


def _weight_files(directory: Path) -> set[str]:
    """The names of the safetensors files that hold the weights, whether they exist or not."""
    if (directory / _WEIGHTS).is_file():
        return {_WEIGHTS}
    if (directory / _INDEX).is_file():
        names = set(_read_object(directory / _INDEX).get("weight_map", {}).values())
        if names and all(isinstance(name, str) and Path(name).name == name for name in names):
            return names
        raise BaseModelError(f"{directory / _INDEX} has no weight_map of plain file names", param="base")
    if any(True for pattern in _PICKLES for _ in directory.glob(pattern)):
        raise BaseModelError(
            f"{directory} holds its weights as pickle files, which can run code when read and are refused: convert "
            "them to safetensors (save_pretrained does)",
            param="base",
        )
    raise BaseModelError(f"{directory} has no {_WEIGHTS} and no {_INDEX}: only safetensors are read", param="base")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path} cannot be read: {_first_line(error)}", param="base") from error
    if not isinstance(value, dict):
        raise BaseModelError(f"{path} is not a JSON object", param="base")
    return value


def _stamps(files: list[Path]) -> list[tuple[str, int, int]]:
    """(name, bytes, modification time in ns) of each file."""
    return [(file.name, stat.st_size, stat.st_mtime_ns) for file in files for stat in [file.stat()]]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "base"


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0][:300] if text else type(error).__name__
