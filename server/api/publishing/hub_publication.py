"""Adapters that the server fetches from a model hub because a client asks it to."""

from adapters_store import BaseDescription, Publication
from adapters_store.errors import ForbiddenSource
from adapters_store.hub_source import parse_hub_source, publish_from_hub
from adapters_store.names import LATEST, AdapterName
from server.api.context import Context


async def fetch_from_hub(
    context: Context,
    name: AdapterName,
    source: str,
    *,
    base: BaseDescription,
    alias: str = LATEST,
    expect: str | None = None,
    param: str = "source",
) -> Publication:
    """Fetch and publish `hub:OWNER/NAME@REVISION`; `param` is the field that it came in.

    Raises:
        ForbiddenSource: the operator does not allow it.
        InvalidAdapter: `source` names nothing on a hub, or what is there may not be published.
        SourceUnavailable: it cannot be fetched.
    """
    if not context.settings.allow_hub_sources:
        raise ForbiddenSource(
            f"{param} names a hub, and this server fetches from none: SWITCHYARD_ALLOW_HUB_SOURCES=true allows it; "
            "or push the adapter from a machine that reaches the hub",
            param=param,
        )
    found = parse_hub_source(source, param=param)
    return await context.download(publish_from_hub, context.store, name, found, base=base, alias=alias, expect=expect)
