"""From the files of a version to its form in host memory."""

from collections.abc import Callable
from pathlib import Path

import torch

from adapters_store.adapter_files import WEIGHTS_FILE
from adapters_store.digest import read_verified
from adapters_store.errors import ChecksumMismatch, MissingFiles, StoreError
from server.adapters.formats import Modules, read_adapter
from server.adapters.loader import LoadFailure, ReadVersion
from server.adapters.normal_form import NormalForm
from server.engine.messages import AdapterVersion

_HEADER_BYTES = 16 * 2**20
"""More than the header of a safetensors file, and an adapter's configuration, take."""


def read_version(
    version: AdapterVersion,
    modules: Modules,
    *,
    dtype: torch.dtype,
    budget_bytes: int,
    bytes_for: Callable[[NormalForm], int] = lambda _form: 0,
) -> ReadVersion | LoadFailure:
    """Read one version into host memory as it is stored, or say why it cannot serve.

    The very bytes that are parsed are hashed first: what serves is what was published. A version that would take more
    than `budget_bytes` in `dtype`, which is the device's, is too large. `bytes_for` says what it takes there in pages:
    how it shares them is worked out here, on the loader's thread, and not while the engine's waits.
    """
    directory = Path(version.directory)
    try:
        # No stored dtype is wider than four bytes, so a file beyond this cannot fit whatever it holds.
        largest_file = budget_bytes * 4 // dtype.itemsize + _HEADER_BYTES
        if (directory / WEIGHTS_FILE).stat().st_size > largest_file:
            return too_large(version, (directory / WEIGHTS_FILE).stat().st_size, budget_bytes)
        files = read_verified(directory, version.digest, max_bytes=largest_file)
        form = read_adapter(files.contents, modules)
    except ChecksumMismatch as error:
        return LoadFailure("checksum_mismatch", f"{version.name}: {error.message}")
    except FileNotFoundError:
        return LoadFailure("load_failed", f"{version.name}: its files are missing from the store", transient=True)
    except OSError as error:
        detail = f"{version.name}: its files cannot be read: {error.strerror}"
        return LoadFailure("load_failed", detail, transient=True)
    except (ValueError, StoreError) as error:
        return LoadFailure("load_failed", f"{version.name}: {error}", transient=isinstance(error, MissingFiles))
    size_bytes = max(form.elements * dtype.itemsize, bytes_for(form))
    if size_bytes > budget_bytes:
        return too_large(version, size_bytes, budget_bytes)
    return ReadVersion(form, files.read_seconds, files.hash_seconds)


def too_large(version: AdapterVersion, size_bytes: int, budget_bytes: int) -> LoadFailure:
    """The failure of a version that the whole budget cannot hold."""
    return LoadFailure(
        "too_large",
        f"{version.name} needs {size_bytes / 2**20:.1f} MiB on the device, the whole adapter budget is "
        f"{budget_bytes / 2**20:.1f} MiB: raise SWITCHYARD_ADAPTER_BUDGET_BYTES",
    )
