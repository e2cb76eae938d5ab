"""Asking through the real `openai` client, against a server that can be wrong in every way."""

import asyncio
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from server.demo.dates import held_out_dates, question
from server.demo.interview import Answer, Inquiry, interview

DIGESTS = {"french-dates": "sha256:" + "a" * 64, "german-dates": "sha256:" + "b" * 64}
DAYS = held_out_dates(3)


class Script:
    """What the server does wrong, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.body: dict[str, Any] = {}
        self.header: str | None = None
        self.status = 200

    def origin(self, model: str) -> dict[str, Any]:
        return {"adapter": model, "digest": DIGESTS.get(model), "fallback": None, "cached_tokens": 0, **self.body}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def url(script: Script) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            script.asked.append(body)
            script.keys.add(self.headers["authorization"])
            answer = json.dumps(self.answer(body)).encode()
            self.send_response(script.status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.send_header("x-adapter-digest", script.header or DIGESTS.get(body["model"], "base"))
            self.end_headers()
            self.wfile.write(answer)

        def answer(self, body: dict[str, Any]) -> dict[str, Any]:
            if script.status != 200:
                return {"error": {"message": "no such model", "type": "invalid_request_error", "code": "x"}}
            message = {"role": "assistant", "content": f"{body['model']} says so"}
            return {
                "id": "1",
                "object": "chat.completion",
                "created": 1,
                "model": body["model"],
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
                "switchyard": script.origin(body["model"]),
            }

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def ask(url: str, *models: str, api_key: str | None = None) -> list[Answer]:
    heard: list[None] = []
    inquiries = [Inquiry(model, day) for day in DAYS for model in models]
    answers = asyncio.run(
        interview(url, inquiries, digests=DIGESTS, api_key=api_key, on_answer=lambda: heard.append(None))
    )
    assert len(heard) == len(inquiries)
    assert [answer.inquiry for answer in answers] == inquiries
    return answers


def test_each_model_is_asked_the_same_question_greedily(url: str, script: Script) -> None:
    answers = ask(url, "base", "french-dates")
    assert {answer.failure for answer in answers} == {None}
    assert {answer.text for answer in answers} == {"base says so", "french-dates says so"}
    assert {(answer.inquiry.model, answer.digest) for answer in answers} == {
        ("base", None),
        ("french-dates", DIGESTS["french-dates"]),
    }
    asked = {model: {str(body["messages"]) for body in script.asked if body["model"] == model} for model in DIGESTS}
    assert asked["french-dates"] == {str([{"role": "user", "content": question(day)}]) for day in DAYS}
    assert {body["temperature"] for body in script.asked} == {0}


@pytest.mark.parametrize(
    ("model", "origin", "header", "said"),
    [
        ("french-dates", {"digest": DIGESTS["german-dates"]}, None, "the body names the digest sha256:bbb"),
        ("french-dates", {"digest": None}, None, "the body names the digest None"),
        ("base", {"digest": DIGESTS["german-dates"]}, None, "the body names the digest sha256:bbb"),
        ("french-dates", {}, DIGESTS["german-dates"], "the header names the digest sha256:bbb"),
        ("base", {}, DIGESTS["german-dates"], "the header names the digest sha256:bbb"),
        ("french-dates", {"fallback": {"reason": "load_failed"}}, None, "in the adapter's place: load_failed"),
    ],
)
def test_an_answer_from_elsewhere_is_a_failure(
    url: str, script: Script, model: str, origin: dict[str, Any], header: str | None, said: str
) -> None:
    script.body, script.header = origin, header
    for answer in ask(url, model):
        assert answer.failure is not None
        assert said in answer.failure


def test_a_refused_request_is_a_failure_that_says_why(url: str, script: Script) -> None:
    script.status = 404
    answers = ask(url, "klingon-dates")
    assert all(answer.failure is not None and "no such model" in answer.failure for answer in answers)


def test_a_key_is_sent_where_there_is_one(url: str, script: Script) -> None:
    ask(url, "base", api_key="secret")
    assert script.keys == {"Bearer secret"}
