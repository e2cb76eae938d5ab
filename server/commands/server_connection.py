"""Calls of a running server's HTTP API."""

from typing import Any

import httpx

from server.commands.failure import CommandFailed

# A server checks an upload before it answers: large adapters take their time.
_TIMEOUT = httpx.Timeout(30.0, read=600.0, write=600.0)


class ServerConnection:
    """Talks to `url`; `key` is sent where it is given.

    Raises:
        CommandFailed: `url` is no URL.
    """

    def __init__(self, url: str, key: str | None, transport: httpx.BaseTransport | None = None) -> None:
        headers = {"authorization": f"Bearer {key}"} if key else {}
        try:
            self._client = httpx.Client(base_url=url, headers=headers, timeout=_TIMEOUT, transport=transport)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
            raise CommandFailed(f"--url {url!r} is not a URL: {error}") from None
        self._url = url

    def call(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """The JSON object that the server answers with; `request` is what httpx takes.

        Raises:
            CommandFailed: it cannot be reached, or refuses; then the message is its own.
        """
        try:
            response = self._client.request(method, path, **request)
        except httpx.TimeoutException:
            raise CommandFailed(f"{self._url} did not answer in time") from None
        except (httpx.TransportError, httpx.UnsupportedProtocol) as error:
            raise CommandFailed(f"{self._url} cannot be reached: {error}") from None
        try:
            body = response.json()
        except ValueError:
            raise CommandFailed(f"{self._url} answered {response.status_code} and no JSON: is it Switchyard?") from None
        if response.is_success and isinstance(body, dict):
            return body
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise CommandFailed(f"{self._url} wants a valid API key: set SWITCHYARD_API_KEY to the server's key")
        raise CommandFailed(_error_message(body) or f"{self._url} answered {response.status_code}")


def _error_message(body: object) -> str | None:
    """The message of an error object in OpenAI's form."""
    match body:
        case {"error": {"message": str(message)}}:
            return message
    return None
