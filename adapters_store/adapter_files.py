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
