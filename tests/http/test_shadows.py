"""Shadows on a real engine: answers stay what and when they were, and copies run to their end in the gaps."""

import time

import httpx
import pytest

from tests.http.client import PROMPT, body
from tests.http.real_server import RealServer

TURNS = 8
TASK = "/v1/tasks/mirrored"
RULE = {"arms": [{"adapter": "red"}], "shadow": [{"adapter": "green"}]}


def test_answers_are_what_they_were_and_every_copy_runs(server: RealServer, adapters: dict[str, str]) -> None:
    assert {"red", "green"} <= set(adapters)
    asked = body("task:mirrored", PROMPT)
    before = ended(server)
    with httpx.Client(base_url=server.url, timeout=60) as client:
        client.put(TASK, json=RULE | {"shadow": []}).raise_for_status()
        alone = client.post("/v1/completions", json=asked).json()["choices"]
        client.put(TASK, json=RULE).raise_for_status()
        try:
            mirrored = []
            for turn in range(TURNS):
                mirrored.append(client.post("/v1/completions", json=asked).json()["choices"])
                time.sleep(0.02 * (turn % 5))
            deadline = time.monotonic() + 30
            while ended(server) < before + TURNS:
                assert time.monotonic() < deadline, server.samples("switchyard_shadow_requests_total")
                time.sleep(0.05)
        finally:
            client.delete(TASK)
    assert mirrored == [alone] * TURNS
    different = server.metric("switchyard_shadow_comparisons_total", task="mirrored", result="different")
    assert different == pytest.approx(TURNS, abs=0), "another adapter says something else"


def ended(server: RealServer) -> float:
    return sum(
        server.metric("switchyard_shadow_requests_total", task="mirrored", outcome=outcome)
        for outcome in ("stop", "length")
    )
