"""Fuzzed requests: no 500, no refusal without a reason, and nothing left behind."""

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.http.client import complete
from tests.http.fuzz import MAX_TOKENS, Findings, Fuzzer
from tests.http.real_server import RealServer, serving

EXAMPLES = 6
SOAK_MINUTES = float(os.environ.get("SOAK_MINUTES", "10"))

BODIES: dict[str, dict[str, Any]] = {
    "/v1/completions": {"model": "red", "prompt": "Once upon", "max_tokens": 4},
    "/v1/chat/completions": {"model": "red", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4},
    "/tokenize": {"model": "red", "prompt": "Once upon"},
    "/detokenize": {"model": "red", "tokens": [3, 4, 5]},
    "/v1/adapters/red/promote": {"alias": "prod", "from": "latest", "expect": None},
    "/v1/adapters/red/notes": {"tags": ["a", "b=c"], "evaluation": {"loss": 0.5, "passed": True}, "description": "x"},
    "/v1/load_lora_adapter": {"lora_name": "copy", "lora_path": "red", "load_inplace": True},
    "/load_lora_adapter": {"lora_name": "copy", "lora_path": "red", "pinned": False},
    "/generate": {"inputs": "Once upon", "parameters": {"adapter_id": "red", "max_new_tokens": 4}},
}


@pytest.fixture(scope="module")
def server(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealServer]:
    """Its context is short, so that a request for as much text as there is ends soon."""
    with serving(base, tmp_path_factory.mktemp("server"), max_model_len=96, max_body_bytes=65536) as running:
        yield running


def _fuzz(server: RealServer, examples: int, start: int, findings: Findings) -> None:
    with Fuzzer(server, ["red", "green", "base"], findings) as fuzzer:
        fuzzer.by_document(examples, start=start)
        fuzzer.by_mutation(BODIES, examples * 12, start=start)


@pytest.mark.slow
@pytest.mark.usefixtures("adapters")
def test_no_fuzzed_request_is_answered_with_a_500(server: RealServer) -> None:
    findings = Findings()
    _fuzz(server, EXAMPLES, 1, findings)
    assert not findings.wrong, "\n".join(findings.wrong[:20])
    assert findings.statuses["POST /v1/completions"].get(200, 0) > 0, "some fuzzed requests must be good ones"
    server.wait_idle()


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_no_fuzzed_request_is_answered_with_a_500_for_minutes(server: RealServer, adapters: dict[str, str]) -> None:
    findings, end, round_number = Findings(), time.monotonic() + 60 * SOAK_MINUTES, 1
    while time.monotonic() < end:
        round_number += 1
        _fuzz(server, 4 * EXAMPLES, round_number, findings)
        assert not findings.wrong, "\n".join(findings.wrong[:20])
    server.wait_idle()
    # The fuzzer may have deleted adapters; the base must be whole.
    assert adapters
    assert complete(server, "base", max_tokens=MAX_TOKENS).status_code == 200
    print(f"\n{findings.total} requests in {SOAK_MINUTES:g} minutes: {findings.statuses}")  # noqa: T201
