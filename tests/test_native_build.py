"""The native kernels are optional: without a compiler the package builds all the same, and says so."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from server.config import environment_without_settings
from server.kernels.native_library import LIBRARY
from tests.import_graph import ROOT


def build(directory: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Build a copy of what `setup.py` needs; the sources themselves are left alone."""
    shutil.copy(ROOT / "setup.py", directory)
    shutil.copytree(ROOT / "server" / "kernels" / "native", directory / "server" / "kernels" / "native")
    return subprocess.run(
        [sys.executable, "setup.py", "build_ext", "--build-lib", "built", "--build-temp", "objects"],
        cwd=directory,
        env=environment_without_settings() | variables,
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_compiler_the_build_goes_on(tmp_path: Path) -> None:
    finished = build(tmp_path, CC="/no/such/compiler", CXX="/no/such/compiler")
    assert finished.returncode == 0, finished.stderr
    assert "server.kernels.native_kernels" in finished.stdout + finished.stderr
    assert [*(tmp_path / "built").rglob("*.so")] == []


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++")
def test_with_one_the_library_lies_beside_the_module_that_loads_it(tmp_path: Path) -> None:
    finished = build(tmp_path)
    assert finished.returncode == 0, finished.stderr
    (library,) = (tmp_path / "built").rglob("*.so")
    assert library.relative_to(tmp_path / "built") == LIBRARY.relative_to(ROOT)
