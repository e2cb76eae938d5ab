"""The 4-bit linear layer of bitsandbytes, imported without the one warning that says nothing here.

On CPUs with AVX512-BF16 bitsandbytes asks a hub for an optional kernel while it is imported, and warns that it
did not get it. All its other warnings pass.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Linear4bit", "Params4bit", "dequantize_4bit", "optional_kernel_silenced"]


@contextmanager
def optional_kernel_silenced() -> Iterator[None]:
    """Without the warning that the optional CPU kernel is not there."""
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    logger.addFilter(_is_not_optional_kernel)
    try:
        yield
    finally:
        logger.removeFilter(_is_not_optional_kernel)


def _is_not_optional_kernel(record: logging.LogRecord) -> bool:
    return "gemm_4bit_forward" not in record.getMessage()


with optional_kernel_silenced():
    from bitsandbytes.functional import dequantize_4bit
    from bitsandbytes.nn import Linear4bit, Params4bit  # type: ignore[attr-defined]
