"""What the rules of tasks name: whether the store has it, and that it stays."""

from collections.abc import Iterator

from adapters_store.errors import InvalidTask, StoreError
from adapters_store.names import AdapterName, parse_adapter_ref
from adapters_store.store import AdapterStore
from adapters_store.task_directory import TaskDirectory
from adapters_store.task_rule import TaskRule


def check_references(rule: TaskRule, store: AdapterStore) -> None:
    """Raises InvalidTask where the store lacks an adapter, alias or version; `param` is the path of the field."""
    for path, problem in _missing(rule, store):
        raise InvalidTask(
            f"{path}: {problem}; publish it, or allow what is not there yet (`--allow-unpublished`, "
            "`?allow_unpublished=true`): it is skipped until then",
            param=path,
        )


def missing_references(rule: TaskRule, store: AdapterStore) -> tuple[str, ...]:
    """What the store lacks of a rule, a sentence each."""
    return tuple(f"{path}: {problem}" for path, problem in _missing(rule, store))


def tasks_that_name(adapter: AdapterName, tasks: TaskDirectory) -> tuple[str, ...]:
    """The tasks whose rule in force names the adapter, by any alias or digest. A damaged task is passed over."""
    return tuple(
        document.name
        for document in tasks.list()
        if any(parse_adapter_ref(ref).name == adapter for _, ref in document.rule.refs())
    )


def digests_in_tasks(tasks: TaskDirectory) -> set[str]:
    """The versions that rules name by digest, those that a rollback may bring back included.

    Raises:
        CorruptTask: a task is damaged, so nobody knows what it names.
    """
    rules = (revision.rule for document in tasks.read_all_or_fail() for revision in document.revisions)
    refs = (parse_adapter_ref(ref) for rule in rules for _, ref in rule.refs())
    return {ref.digest for ref in refs if ref.digest is not None}


def _missing(rule: TaskRule, store: AdapterStore) -> Iterator[tuple[str, str]]:
    for path, ref in rule.refs():
        parsed = parse_adapter_ref(ref)
        if parsed.is_base:
            continue
        try:
            store.resolve(parsed)
        except StoreError as error:
            yield path, error.message
