"""`python -m loadtest report`: results as one page."""


def report() -> None:
    """Placeholder."""
