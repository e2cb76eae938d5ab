"""Taking an adapter from a directory of unknown origin: the files that matter, copied and durable."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from adapters_store.adapter_files import CONFIG_FILE, PROMPTING_FILE, WEIGHTS_FILE, open_regular
from adapters_store.adapter_prompting import encode_prompting
from adapters_store.base_description import BaseDescription
from adapters_store.errors import AdapterTooLarge, InvalidAdapter
from adapters_store.file_operations import OS_FILES, FileOperations, write_new_file
from adapters_store.limits import Limits
from adapters_store.prompting_source import read_prompting
from adapters_store.quoting import quoted

PICKLE_SUFFIXES: Final = frozenset({".bin", ".pt", ".pth", ".pkl"})
_CHUNK_BYTES = 4 * 1024 * 1024


def copy_adapter(
    source: Path,
    target: Path,
    limits: Limits,
    files: FileOperations = OS_FILES,
    *,
    base: BaseDescription | None = None,
) -> None:
    """Copy the adapter files of `source` into the empty directory `target`, read-only and durable.

    What its tokenizer and generation configuration say otherwise than the base's becomes `prompting.json`; where that
    is nothing, there is no such file. Other files (README, checkpoints) are left behind.

    Raises:
        InvalidAdapter: a file is missing or malformed, is a pickle or is a symbolic link; `param` names it.
        AdapterTooLarge: a file is larger than the limits allow.
        OSError: the disk refused.
    """
    check_source(source)
    _copy_file(source / CONFIG_FILE, target / CONFIG_FILE, limits.max_config_bytes, files)
    _copy_file(source / WEIGHTS_FILE, target / WEIGHTS_FILE, limits.max_bytes, files)
    prompting = read_prompting(source, base.tokenizer if base is not None else None)
    if prompting:
        write_new_file(target / PROMPTING_FILE, [encode_prompting(prompting)], files, mode=0o444)
    files.sync_directory(target)


def check_source(source: Path) -> None:
    """Refuse what is no directory of regular, pickle-free files; nothing is opened.

    Raises:
        InvalidAdapter: it is no directory, or holds a pickle or a symbolic link; `param` names it.
        OSError: the directory cannot be listed.
    """
    if not source.is_dir():
        raise InvalidAdapter(f"{quoted(source.name)} is not a directory: give the one that `save_pretrained` wrote")
    with os.scandir(source) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if entry.is_symlink():
                raise InvalidAdapter(
                    f"{quoted(entry.name)} is a symbolic link, and links are not followed: copy the file itself there",
                    param=entry.name,
                )
            if Path(entry.name).suffix.lower() in PICKLE_SUFFIXES:
                raise InvalidAdapter(
                    f"{quoted(entry.name)} is a pickle, which can run code when it is loaded: save the adapter with "
                    "`save_pretrained(..., safe_serialization=True)`, or remove the file where it is not the adapter",
                    param=entry.name,
                )


def open_source_file(source: Path) -> io.BufferedReader:
    """Open one of the adapter's files.

    Raises:
        InvalidAdapter: it is missing, is no regular file, or may not be read; `param` names it.
    """
    try:
        return open_regular(source)
    except FileNotFoundError:
        raise InvalidAdapter(
            f"there is no {source.name}: give the directory that `save_pretrained` wrote", param=source.name
        ) from None
    except OSError as error:
        raise InvalidAdapter(f"{source.name} cannot be read: {error.strerror or error}", param=source.name) from error


def _copy_file(source: Path, target: Path, limit: int, files: FileOperations) -> None:
    with open_source_file(source) as reader:
        write_new_file(target, _chunks(reader, source.name, limit), files, mode=0o444)


def _chunks(reader: io.BufferedReader, name: str, limit: int) -> Iterator[bytes]:
    copied = 0
    while chunk := reader.read(_CHUNK_BYTES):
        copied += len(chunk)
        if copied > limit:
            raise AdapterTooLarge(f"{name} is larger than the {limit} bytes allowed", param=name)
        yield chunk
