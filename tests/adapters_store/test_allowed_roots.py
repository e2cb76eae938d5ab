"""Which directories of the machine a client may name."""

import errno
from pathlib import Path

import pytest

from adapters_store.allowed_roots import allowed_directory
from adapters_store.errors import ForbiddenSource, InvalidAdapter


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "roots" / "team" / "support").mkdir(parents=True)
    (tmp_path / "secrets").mkdir()
    return tmp_path / "roots"


def test_a_directory_below_a_root_is_allowed_at_any_depth(root: Path) -> None:
    assert allowed_directory(str(root / "team"), [root]) == root / "team"
    assert allowed_directory(f"{root}/team//support/", [root]) == root / "team" / "support"
    assert allowed_directory(str(root / "team"), [root.parent / "secrets", root]) == root / "team"


@pytest.mark.parametrize(
    "path",
    [
        "{root}",
        "{root}/../secrets",
        "{root}/team/../../secrets",
        "{root}-beside/x",
        "/",
        "/etc",
        "roots/team",
        "",
        "{root}/team\0",
        "{root}/team\ud800",
    ],
)
def test_what_is_not_below_a_root_is_forbidden_whether_it_exists_or_not(root: Path, path: str) -> None:
    with pytest.raises(ForbiddenSource, match="SWITCHYARD_ADAPTER_ROOTS") as refusal:
        allowed_directory(path.format(root=root), [root])
    assert (refusal.value.status, refusal.value.param) == (403, "lora_path")


def test_a_link_that_leads_out_of_the_roots_is_forbidden(root: Path) -> None:
    (root / "way-out").symlink_to(root.parent / "secrets")
    with pytest.raises(ForbiddenSource):
        allowed_directory(str(root / "way-out"), [root])


def test_a_link_between_roots_is_followed_and_so_is_a_root_that_is_a_link(root: Path) -> None:
    (root / "alias").symlink_to(root / "team")
    (root.parent / "linked").symlink_to(root)
    assert allowed_directory(str(root / "alias"), [root]) == root / "team"
    assert allowed_directory(str(root.parent / "linked" / "team"), [root.parent / "linked"]) == root / "team"


def test_without_roots_everything_is_forbidden(root: Path) -> None:
    with pytest.raises(ForbiddenSource):
        allowed_directory(str(root / "team"), [])


@pytest.mark.parametrize("name", ["absent", "file", "x" * 300, "x/" * 3000, "\udc80"])
def test_below_a_root_what_is_no_directory_is_said_to_be_none(root: Path, name: str) -> None:
    (root / "file").write_text("")
    with pytest.raises(InvalidAdapter, match="is not a directory"):
        allowed_directory(str(root / name), [root])


def test_below_a_root_what_may_not_be_looked_at_is_no_directory(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(_path: Path) -> bool:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "is_dir", refused)
    with pytest.raises(InvalidAdapter, match="is not a directory"):
        allowed_directory(str(root / "team"), [root])
