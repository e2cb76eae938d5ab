"""Who imports whom, read from the source of the project's packages without running it."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("server", "adapters_store", "loadtest")


@dataclass(frozen=True)
class Import:
    """One imported name; `deferred` where a function body imports it, so that it may never happen."""

    name: str
    deferred: bool


@cache
def modules() -> dict[str, Path]:
    """Every module of the project, by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@cache
def imports(module: str) -> tuple[Import, ...]:
    """What a module of the project imports, relative names made absolute, `if TYPE_CHECKING` left out."""
    path = modules()[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    tree = ast.parse(path.read_text(), filename=str(path))
    return tuple(_imports(tree, package, deferred=False))


def reachable(roots: list[str], *, deferred_in: str) -> dict[str, tuple[str, ...]]:
    """Every name that importing `roots` imports, with the chain of modules that leads there.

    Imports inside functions count in the modules below the package `deferred_in` only.
    """
    chains: dict[str, tuple[str, ...]] = {}
    pending: list[tuple[str, tuple[str, ...]]] = [(root, (root,)) for root in roots]
    while pending:
        name, chain = pending.pop()
        for ancestor in _with_parents(name):
            if ancestor in chains:
                continue
            chains[ancestor] = chain
            if ancestor not in modules():
                continue
            counts_deferred = is_below(ancestor, deferred_in)
            for imported in imports(ancestor):
                if counts_deferred or not imported.deferred:
                    pending.append((imported.name, (*chain, imported.name)))
    return chains


def is_below(name: str, package: str) -> bool:
    """Whether a dotted name is a package or lies in it."""
    return name == package or name.startswith(package + ".")


def _with_parents(name: str) -> list[str]:
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _imports(node: ast.AST, package: str, *, deferred: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        match child:
            case ast.Import(names=names):
                yield from (Import(alias.name, deferred) for alias in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                base = _absolute(module, level, package)
                yield from (Import(_imported(base, alias.name), deferred) for alias in names)
            case ast.If(test=ast.Name(id="TYPE_CHECKING"), orelse=otherwise):
                for statement in otherwise:
                    yield from _imports(ast.Module([statement], []), package, deferred=deferred)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                yield from _imports(child, package, deferred=True)
            case _:
                yield from _imports(child, package, deferred=deferred)


def _absolute(module: str | None, level: int, package: str) -> str:
    if level == 0:
        assert module is not None
        return module
    ancestors = package.split(".")
    kept = ancestors[: len(ancestors) - level + 1]
    return ".".join([*kept, module] if module else kept)


def _imported(base: str, name: str) -> str:
    """`from base import name` imports a submodule where there is one, and else just `base`."""
    return f"{base}.{name}" if f"{base}.{name}" in modules() else base
