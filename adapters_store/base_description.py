"""What an adapter must fit: the modules of a base model and their shapes, as data."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from adapters_store.atomic_file import read_limited, replace_file
from adapters_store.base_tokenizer import BaseTokenizer
from adapters_store.errors import StoreError
from adapters_store.file_operations import OS_FILES, FileOperations

MAX_DESCRIPTION_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class BaseDescription:
    """A base model as far as an adapter depends on it.

    `modules` gives every linear module that an adapter may target: its full name
    (`model.layers.0.self_attn.q_proj`) and its shape (out_features, in_features). `tokenizer` is what adapters'
    tokenizers are compared with, None where it is not known.
    """

    name: str
    architecture: str
    modules: Mapping[str, tuple[int, int]]
    tokenizer: BaseTokenizer | None = None


def save_base(description: BaseDescription, path: Path, files: FileOperations = OS_FILES) -> None:
    """Write a description as JSON, replacing the file atomically.

    Raises:
        OSError: the file cannot be written.
    """
    replace_file(path, msgspec.json.format(msgspec.json.encode(description), indent=1) + b"\n", files)


def load_base(path: Path) -> BaseDescription | None:
    """Read a description; None where there is no such file.

    Raises:
        StoreError: the file is not a base description.
    """
    try:
        return msgspec.json.decode(read_limited(path, MAX_DESCRIPTION_BYTES), type=BaseDescription)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(
            f"{path.name} in the store is not a base description ({reason}); "
            "serve from the store once to write it again, or remove it"
        ) from error
