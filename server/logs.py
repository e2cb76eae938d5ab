"""Logging: one line a record, on standard error."""

import logging
import sys


def configure_logs(level: str) -> None:
    """Send every logger's records to standard error, from `level` up; libraries from warning up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s", "%H:%M:%S"))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for name in ("server", "adapters_store", "uvicorn.error"):
        logging.getLogger(name).setLevel(level.upper())
