"""Drives lorax-client against a server and prints one JSON object of what it saw. Usage: lorax_driver.py URL ADAPTER"""

import json
import sys

from lorax import Client
from lorax.errors import NotFoundError


def main(url: str, adapter: str) -> None:
    """Generate whole and as a stream, for an adapter and for the base, and name an adapter that is not there."""
    client = Client(url, timeout=60)
    whole = client.generate("Hello", adapter_id=adapter, max_new_tokens=8, decoder_input_details=True)
    streamed = list(client.generate_stream("Hello", adapter_id=adapter, max_new_tokens=8))
    base = client.generate("Hello", max_new_tokens=8, details=True)
    seeded = [
        client.generate("Hello", adapter_id=adapter, max_new_tokens=8, do_sample=True, temperature=1.1, seed=4)
        for _ in range(2)
    ]
    full = client.generate("Hello", adapter_id=adapter, max_new_tokens=4, return_full_text=True)
    error = None
    try:
        client.generate("Hello", adapter_id="no-such-adapter", max_new_tokens=4)
    except NotFoundError as caught:
        error = {"name": type(caught).__name__, "message": str(caught)}
    details = whole.details
    seen = {
        "text": whole.generated_text,
        "streamed": "".join(one.token.text for one in streamed if not one.token.special),
        "final": streamed[-1].generated_text,
        "tokens": details.generated_tokens,
        "token_ids": [token.id for token in details.tokens],
        "prefill": len(details.prefill),
        "finish_reason": str(details.finish_reason.value),
        "base": base.generated_text,
        "seeded": [one.generated_text for one in seeded],
        "full": full.generated_text,
        "error": error,
    }
    sys.stdout.write(json.dumps(seen) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
