"""A full disk, told as the store's own error."""

import errno
from collections.abc import Callable
from functools import wraps
from typing import Final, ParamSpec, TypeVar

from adapters_store.errors import StoreFull

_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})

P = ParamSpec("P")
T = TypeVar("T")


def tells_full_disk(change: Callable[P, T]) -> Callable[P, T]:
    """Wrap a change of the store so that a full disk or a spent quota becomes `StoreFull`; others stay OSErrors."""

    @wraps(change)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return change(*args, **kwargs)
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise StoreFull(
                "the disk that holds the adapter store is full: free some space or raise the quota, for example by "
                "collecting versions that nothing uses, and try again; the store is whole"
            ) from error

    return wrapped
