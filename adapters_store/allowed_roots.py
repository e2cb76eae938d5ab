"""The directories of this machine from which a client may have adapters published by path."""

import os
from collections.abc import Iterable
from pathlib import Path, PurePath

from adapters_store.errors import ForbiddenSource, InvalidAdapter
from adapters_store.quoting import quoted

_SETTING = "SWITCHYARD_ADAPTER_ROOTS"


def allowed_directory(path: str, roots: Iterable[Path], *, param: str = "lora_path") -> Path:
    """The directory that `path` means, with every symbolic link resolved, where it lies below one of `roots`.

    A root itself is no adapter. Whether something exists outside the roots is not told. Whoever can write below a
    root decides what is published from there: the check and the reading are two moments.

    Raises:
        ForbiddenSource: the path is outside the roots, relative, holds `..`, or there are no roots; 403.
        InvalidAdapter: it lies below a root, but is no directory; 400.
    """
    resolved = _resolved(path)
    below = resolved is not None and any(
        root != resolved and resolved.is_relative_to(root) for root in map(_root, roots)
    )
    if resolved is None or not below:
        raise ForbiddenSource(
            f"{param} {quoted(path)} is not below a directory that this server publishes from: {_SETTING} lists "
            "those; add one there, give an absolute path without `..`, or upload the files",
            param=param,
        )
    if not _is_directory(resolved):
        raise InvalidAdapter(
            f"{param} {quoted(path)} is not a directory: give what `save_pretrained` wrote", param=param
        )
    return resolved


def _resolved(path: str) -> Path | None:
    """The real path; None of a text that may name none."""
    pure = PurePath(path)
    if "\0" in path or not pure.is_absolute() or ".." in pure.parts:
        return None
    try:
        return Path(os.path.realpath(path))
    except ValueError:  # a text that no file system can name
        return None


def _is_directory(path: Path) -> bool:
    """No also of what is too long to be a path, or not for this process to look at."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _root(root: Path) -> Path:
    return Path(os.path.realpath(root))
