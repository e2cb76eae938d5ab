"""Times as the store writes them: ISO 8601 in UTC, to the millisecond."""

from datetime import UTC, datetime


def now() -> str:
    """This moment."""
    return text_of(datetime.now(UTC))


def text_of(moment: datetime) -> str:
    """A moment as text; texts of this form sort as the moments do."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def seconds_of(text: str) -> float:
    """Seconds since the epoch.

    Raises:
        ValueError: it is no such text.
    """
    return datetime.fromisoformat(text).timestamp()
