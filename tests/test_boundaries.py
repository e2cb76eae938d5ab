"""The lines between the parts: who may import whom, who reads the environment, how large a file may grow."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.import_graph import PACKAGES, ROOT, is_below, modules, reachable

MODEL_CODE = ("torch", "transformers", "peft", "bitsandbytes", "accelerate")
MAX_LINES = 450
VAGUE_NAMES = frozenset({"utils", "util", "helpers", "helper", "manager", "managers", "misc", "common"})

# Files that may touch the environment, and why.
ENVIRONMENT_READERS = {
    "server/config.py": "the settings",
}


def chains_to(forbidden: tuple[str, ...], package: str) -> list[str]:
    """How importing anything in `package` leads to one of the forbidden packages."""
    roots = [name for name in modules() if is_below(name, package)]
    assert roots
    found = reachable(roots, deferred_in=package)
    return [
        " -> ".join(chain) for name, chain in found.items() if any(is_below(name, package) for package in forbidden)
    ]


def imported_after_loading(package: str) -> set[str]:
    """The top-level packages in a fresh interpreter that has imported every module of `package`."""
    names = [name for name in modules() if is_below(name, package)]
    program = (
        "import importlib, json, sys\n"
        "for name in json.loads(sys.argv[1]): importlib.import_module(name)\n"
        "print(json.dumps(sorted({name.partition('.')[0] for name in sys.modules})))\n"
    )
    finished = subprocess.run(
        [sys.executable, "-c", program, json.dumps(names)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    return set(json.loads(finished.stdout.splitlines()[-1]))


def test_the_http_layer_imports_no_model_code() -> None:
    # transformers is let through: its tokenizer classes do without torch.
    assert chains_to(("torch", "peft", "bitsandbytes", "accelerate"), "server.api") == []


def test_loading_the_http_layer_does_not_load_torch() -> None:
    assert imported_after_loading("server.api").isdisjoint({"torch", "peft", "bitsandbytes", "accelerate"})


def test_the_store_imports_neither_the_server_nor_model_code() -> None:
    assert chains_to(("server", "loadtest", *MODEL_CODE), "adapters_store") == []


def test_loading_the_store_loads_neither_the_server_nor_model_code() -> None:
    assert imported_after_loading("adapters_store").isdisjoint({"server", "loadtest", *MODEL_CODE})


def test_the_load_test_measures_without_model_code_in_its_process() -> None:
    assert imported_after_loading("loadtest").isdisjoint(MODEL_CODE)


def test_the_graph_sees_torch_where_it_is_imported() -> None:
    """The checks above would pass on an empty graph; this one would not."""
    assert chains_to(("torch",), "server.adapters") != []


def source_files() -> list[Path]:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    return [*modules().values(), *tests]


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def touches_environment(path: Path) -> bool:
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="os"), attr="environ" | "environb" | "getenv" | "putenv"):
                return True
            case ast.ImportFrom(module="os", names=names) if {"environ", "getenv"} & {alias.name for alias in names}:
                return True
    return False


def test_only_the_settings_touch_the_environment() -> None:
    readers = {relative(path) for name, path in modules().items() if touches_environment(path)}
    assert readers == set(ENVIRONMENT_READERS)


@pytest.mark.parametrize("path", source_files(), ids=relative)
def test_a_file_is_one_noun(path: Path) -> None:
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_LINES, f"{relative(path)} has {lines} lines: look for the second noun in it"


def test_no_module_has_a_vague_name() -> None:
    assert [relative(path) for path in source_files() if VAGUE_NAMES & set(relative(path)[:-3].split("/"))] == []


def test_every_package_folder_is_a_package() -> None:
    """Without `__init__.py` a folder of tests shadows its namesake, and a folder of code is not installed."""
    folders = {path.parent for path in source_files()}
    assert [relative(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_packages_are_all_there() -> None:
    assert {name.partition(".")[0] for name in modules()} == set(PACKAGES)
