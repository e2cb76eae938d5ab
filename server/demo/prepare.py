"""Fetch and convert the demo's base model: `python -m server.demo.prepare CACHE_DIR`.

A process of its own, so that the demo needs no torch and keeps no memory of the conversion.
"""

import sys
from pathlib import Path

from server.demo.base import BASE, QUANTIZATION
from server.engine.base_model import prepare_base
from server.engine.base_progress import TerminalProgress
from server.errors import BaseModelError


def main() -> int:
    """Prepare the base below the directory that is the one argument; 1 where that fails."""
    try:
        prepare_base(BASE, quantization=QUANTIZATION, cache_dir=Path(sys.argv[1]), progress=TerminalProgress())
    except BaseModelError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
