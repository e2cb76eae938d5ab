"""Which adapters a running server has, and the version that each should answer with."""

from collections.abc import Mapping

import httpx


class UnsuitableServerError(Exception):
    """The server cannot be loaded as asked; the message says why."""


async def all_served_adapters(client: httpx.AsyncClient) -> dict[str, str]:
    """The adapters in the server's list of models, in its order, with their digests.

    Raises:
        UnsuitableServerError: the answer is no list of adapters.
        httpx.HTTPError: the server cannot be reached.
    """
    response = await client.get("/v1/models")
    if response.status_code != httpx.codes.OK:
        raise UnsuitableServerError(f"/v1/models answered {response.status_code}: is the API key right?")
    try:
        adapters = [card for card in response.json()["data"] if card["parent"] is not None]
        # An adapter's root is the immutable name of what answers to it now: name@sha256:…
        return {str(card["id"]): str(card["root"]).partition("@")[2] for card in adapters}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnsuitableServerError("/v1/models did not answer with a list of models") from error


def first_adapters(digests: Mapping[str, str], count: int) -> dict[str, str]:
    """The first `count` of a server's adapters.

    Raises:
        UnsuitableServerError: it has fewer.
    """
    if len(digests) < count:
        raise UnsuitableServerError(
            f"the server has {len(digests)} adapters and {count} were asked for: publish more, "
            "or lower --adapters or --working-set"
        )
    return dict(list(digests.items())[:count])
