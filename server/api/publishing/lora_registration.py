"""Adapters added by path and removed by name, as clients of vLLM and SGLang do at run time."""

import asyncio
import logging
from pathlib import Path, PurePath

from adapters_store import AdapterEntry, AliasConflict, Publication, UnknownAdapter, parse_adapter_name
from adapters_store.allowed_roots import allowed_directory
from adapters_store.errors import InvalidAdapter, InvalidName
from adapters_store.hub_source import HUB_PREFIX
from adapters_store.names import BASE_NAME, AdapterName
from adapters_store.quoting import quoted
from server.api.context import Context, ServedModel
from server.api.publishing.hub_publication import fetch_from_hub
from server.api.request_id import request_id
from server.api.routes.adapters import unload_unused
from server.errors import AdapterAlreadyLoaded, InvalidRequest

logger = logging.getLogger(__name__)


async def register(context: Context, name: str, path: str, *, replace: bool) -> Publication:
    """Publish what lies at `path` as a version of `name`, through the store's own checks.

    `path` is an absolute directory below one of the allowed roots, a place on a hub, or else a name in the store, whose
    version then gets a second name. Without `replace`, the name must be a new one.

    Raises:
        InvalidName: the name is outside the grammar, or reserved.
        AdapterAlreadyLoaded: the name is there, and `replace` is false.
        ForbiddenSource: the path is not below a root, or hubs are not allowed.
        SourceUnavailable: the hub cannot be reached, or does not have it.
        UnknownAdapter: there is nothing at the path.
        InvalidAdapter, AdapterTooLarge: the directory may not be published.
        StoreBusy, CorruptVersion: the store cannot take it now.
    """
    adapter = _adapter_name(name)
    if adapter.is_reserved:
        raise InvalidName(f"{name!r} is a reserved name; choose another", param="lora_name")
    model = context.served_model()
    if not replace and await asyncio.to_thread(_is_known, context, adapter):
        raise _already_loaded(name)
    try:
        publication = await _publish(context, model, name, adapter, path, expect=None if replace else "none")
    except AliasConflict:
        # Another one has published it in the meantime, which is minutes where a hub is slow.
        raise _already_loaded(name) from None
    logger.info(
        "request %s: published %s from %s: %s", request_id.get(), adapter, quoted(path), publication.version.digest
    )
    return publication


async def _publish(
    context: Context, model: ServedModel, name: str, adapter: AdapterName, path: str, *, expect: str | None
) -> Publication:
    base = model.description
    if path.startswith(HUB_PREFIX):
        place = context.uploads.enter()
        try:
            return await fetch_from_hub(context, adapter, path, base=base, expect=expect, param="lora_path")
        finally:
            place.leave()
    async with context.publishing:
        source = await _source(context, model, name, path)
        return await context.write(context.store.publish, adapter, source, base=base, expect=expect)


async def unregister(context: Context, name: str) -> AdapterEntry:
    """Remove a name from the store and its versions from the device; requests that run on them end undisturbed.

    Raises:
        InvalidName: the name is outside the grammar.
        UnknownAdapter: there is no such name.
        StoreBusy, CorruptVersion: the store cannot change it now.
    """
    adapter = _adapter_name(name)
    try:
        entry = await context.write(context.store.delete, adapter)
    except UnknownAdapter:
        raise UnknownAdapter(f"The lora adapter '{name}' cannot be found.", param="lora_name") from None
    logger.info("request %s: deleted %s", request_id.get(), adapter)
    await context.preloader.forget_pins(adapter)
    await unload_unused(context, {version.digest for version in entry.versions})
    return entry


def check_base(model: ServedModel, name: str | None) -> None:
    """Raises InvalidRequest where a request names another base than the one served."""
    known = (BASE_NAME, model.name, model.info.base_name)
    if name is not None and name not in known:
        raise InvalidRequest(
            f"base_model_name is {quoted(name)}, but the base served here is {model.name}; leave the field out",
            param="base_model_name",
        )


def _adapter_name(name: str) -> AdapterName:
    try:
        return parse_adapter_name(name)
    except InvalidName as error:
        error.param = "lora_name"
        raise


def _already_loaded(name: str) -> AdapterAlreadyLoaded:
    return AdapterAlreadyLoaded(
        f"The lora adapter '{name}' has already been loaded. If you want to load the adapter in place, set "
        "'load_inplace' to True.",
        param="lora_name",
    )


def _is_known(context: Context, adapter: AdapterName) -> bool:
    try:
        context.store.get(adapter)
    except UnknownAdapter:
        return False
    return True


async def _source(context: Context, model: ServedModel, name: str, path: str) -> Path:
    """The directory to publish from."""
    missing = UnknownAdapter(f"Loading lora {name} failed: No adapter found for {path[:512]}", param="lora_path")
    try:
        if PurePath(path).is_absolute():
            return await asyncio.to_thread(allowed_directory, path, context.settings.adapter_roots or ())
        version = (await model.names.resolve(path)).version
    except (InvalidAdapter, InvalidName, UnknownAdapter):
        raise missing from None
    if version is None:
        raise missing
    return version.directory
