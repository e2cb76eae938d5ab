"""The version of this server."""

from importlib.metadata import PackageNotFoundError, version


def release() -> str:
    """The installed distribution's version; `0+unknown` where the source runs without being installed."""
    try:
        return version("switchyard")
    except PackageNotFoundError:
        return "0+unknown"
