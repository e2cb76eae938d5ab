"""The `model` field of a request, resolved to the bare base or to one immutable adapter version."""

import asyncio
import dataclasses
from dataclasses import dataclass, field

from adapters_store import AdapterStore, InvalidName, UnknownAdapter, Version, parse_model_name
from adapters_store.errors import StoreError
from adapters_store.names import BASE_NAME, AdapterName, AdapterRef
from server.api.publishing.store_lease import StoreLease
from server.engine.messages import AdapterVersion


@dataclass(frozen=True)
class Target:
    """What a request runs on; `version` None is the bare base. It stays the same however aliases move.

    `ref` is the name by which it was found, to be resolved again later; it does not tell targets apart.
    """

    version: Version | None
    ref: AdapterRef | None = field(default=None, compare=False)

    @property
    def name(self) -> str:
        """The adapter's name without selector, or `base`."""
        return BASE_NAME if self.version is None else str(self.version.name)

    @property
    def tenant(self) -> str:
        """Whose adapter it is; "" for those without a tenant, and for the bare base."""
        return (self.version.name.tenant or "") if self.version is not None else ""

    @property
    def digest(self) -> str | None:
        """The version's digest, None for the bare base."""
        return None if self.version is None else self.version.digest

    def as_engine_version(self) -> AdapterVersion | None:
        """The version as the engine is told of it."""
        if self.version is None:
            return None
        return AdapterVersion(
            name=self.name, digest=self.version.digest, directory=str(self.version.directory.absolute())
        )


class ModelNames:
    """Resolves names against one store and one served base.

    With a lease, what is resolved is held against collection before anybody uses it.
    """

    def __init__(self, store: AdapterStore, served_name: str, lease: StoreLease | None = None) -> None:
        self._store = store
        self._served_name = served_name
        self._resolve = store.resolve if lease is None else lease.resolve

    async def resolve(self, text: str) -> Target:
        """What `text` means now.

        Raises:
            InvalidName: outside the grammar, on another base than the served one, or a composition.
            UnknownAdapter: no such adapter, alias or version.
        """
        try:
            ref = self._adapter_ref(text)
            if ref is None:
                return Target(None)
            # In a thread: a disk that hangs must not stop the streams of others.
            return Target(await asyncio.to_thread(self._version, ref), ref)
        except (InvalidName, UnknownAdapter) as error:
            error.param = error.param or "model"
            raise

    def _version(self, ref: AdapterRef) -> Version:
        try:
            return self._resolve(ref)
        except UnknownAdapter as error:
            if error.is_name and not error.suggestions:
                raise UnknownAdapter(error.message + self._advice(ref)) from None
            raise

    def _advice(self, ref: AdapterRef) -> str:
        """What to ask instead of a name that resembles none: its lower-case form, else what there is."""
        # The name alone: a tenant in another case is another tenant, whose names are not told.
        lower = dataclasses.replace(ref.name, name=ref.name.name.lower())
        if lower != ref.name and not lower.is_reserved and self._is_known(lower):
            return f"; did you mean {str(lower)!r}?"
        return f"; ask `{BASE_NAME}`, or one that GET /v1/models lists"

    def _is_known(self, name: AdapterName) -> bool:
        try:
            self._store.get(name)
        except StoreError:
            return False
        return True

    def _adapter_ref(self, text: str) -> AdapterRef | None:
        """The one adapter that `text` names, None for the bare base."""
        if text == self._served_name:
            return None
        # A served name may hold what the grammar keeps for itself (`org/model`, `:`), so it is matched first.
        prefix = f"{self._served_name}:"
        name = parse_model_name(text.removeprefix(prefix))
        if text.startswith(prefix) and name.base is not None:
            raise InvalidName(f"{text[:96]!r} names two bases")
        if name.base not in (None, BASE_NAME, self._served_name):
            raise InvalidName(
                f"base {name.base[:96]!r} is not the one served here: write `base:` or `{self._served_name}:`, "
                "or leave it out"
            )
        if len(name.parts) > 1:
            raise InvalidName(
                f"{text[:96]!r} composes {len(name.parts)} adapters, which this server does not serve: name one of them"
            )
        return None if name.parts[0].is_base else name.parts[0]
