"""The files that make an adapter, and how they are opened without following anything."""

import errno
import io
import os
import stat
from pathlib import Path
from typing import Final

CONFIG_FILE: Final = "adapter_config.json"
WEIGHTS_FILE: Final = "adapter_model.safetensors"
ADAPTER_FILES: Final = (CONFIG_FILE, WEIGHTS_FILE)
"""What every version has."""

PROMPTING_FILE: Final = "prompting.json"
"""What a version has beside them where it wants its prompts or answers otherwise than the base."""

CHAT_TEMPLATE_FILE: Final = "chat_template.jinja"
TOKENIZER_FILE: Final = "tokenizer.json"
TOKENIZER_CONFIG_FILE: Final = "tokenizer_config.json"
ADDED_TOKENS_FILE: Final = "added_tokens.json"
SPECIAL_TOKENS_FILE: Final = "special_tokens_map.json"
GENERATION_CONFIG_FILE: Final = "generation_config.json"
PROMPTING_SOURCES: Final = (
    CHAT_TEMPLATE_FILE,
    TOKENIZER_FILE,
    TOKENIZER_CONFIG_FILE,
    ADDED_TOKENS_FILE,
    SPECIAL_TOKENS_FILE,
    GENERATION_CONFIG_FILE,
)
"""What `prompting.json` is derived from; a version does not keep them."""

SOURCE_FILES: Final = (*ADAPTER_FILES, PROMPTING_FILE, *PROMPTING_SOURCES)
"""All that is read of a directory that is published."""


def version_files(directory: Path) -> tuple[str, ...]:
    """The names of the files that make the version in a directory."""
    return (*ADAPTER_FILES, PROMPTING_FILE) if os.path.lexists(directory / PROMPTING_FILE) else ADAPTER_FILES


def open_regular(path: Path) -> io.BufferedReader:
    """Open a regular file for reading; a symbolic link, pipe or device is not followed, waited for or read.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is not a regular file, or may not be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
