"""Fuzzed requests against a real server: what the OpenAPI document allows, what it forbids, and broken bytes."""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from schemathesis import Case, GenerationMode
from schemathesis.core.result import Err
from schemathesis.schemas import APIOperation

from tests.http.real_server import RealServer

MAX_TOKENS = 8
"""Most tokens that a fuzzed request may ask for: fuzzing is about requests, not about long answers."""

_SECONDS = 60.0
_ALLOWED_503 = frozenset({"adapter_unavailable", "corrupt_adapter", "store_busy"})
_SKIPPED = frozenset({"/metrics", "/docs", "/openapi.json"})


@dataclass
class Findings:
    """What the server answered: how often each status on each operation, and every answer that must not be."""

    statuses: dict[str, dict[int, int]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)

    def take(self, operation: str, sent: object, response: httpx.Response) -> None:
        """Count an answer and judge it."""
        counts = self.statuses.setdefault(operation, {})
        counts[response.status_code] = counts.get(response.status_code, 0) + 1
        problem = _problem(response)
        if problem is not None:
            self.wrong.append(f"{operation}: {problem}\n  sent: {str(sent)[:600]}\n  got: {response.text[:400]}")

    @property
    def total(self) -> int:
        """Requests that were answered."""
        return sum(sum(counts.values()) for counts in self.statuses.values())


def _problem(response: httpx.Response) -> str | None:
    """Why an answer must not be, or None: no 500, and every refusal says what it is and what to mend."""
    status = response.status_code
    if status < 400:
        return None
    try:
        body = response.json()
    except ValueError:
        return f"{status} without JSON"
    error = body.get("error") if isinstance(body, dict) else None
    if isinstance(error, str):  # text-generation-inference's form, on its own routes
        error = {"message": error, "code": body.get("error_type")}
    elif isinstance(body, dict) and body.get("success") is False:  # SGLang's, on its own
        error = {"message": body.get("error_message")}
    if not isinstance(error, dict) or not error.get("message"):
        return f"{status} without an error object"
    if status >= 500 and not (status == 503 and error.get("code") in _ALLOWED_503):
        return f"{status} {error.get('code')}"
    return None


class Fuzzer:
    """Sends fuzzed requests to one server; `models` are names that exist on it."""

    def __init__(self, server: RealServer, models: list[str], findings: Findings) -> None:
        self._url = server.url
        self._models = models
        self._findings = findings
        self._client = httpx.Client(base_url=server.url, timeout=_SECONDS)

    def __enter__(self) -> "Fuzzer":
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def by_document(self, examples: int, *, start: int) -> None:
        """`examples` requests for each operation of the OpenAPI document, valid and invalid by turns."""
        schema = schemathesis.openapi.from_url(f"{self._url}/openapi.json")
        for result in schema.get_all_operations():
            if isinstance(result, Err):
                raise result.err()
            operation = result.ok()
            if operation.path in _SKIPPED:
                continue
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                self._operation(operation, mode, max(1, examples // 2), start)

    def _operation(
        self, operation: APIOperation[Any, Any, Any, Any], mode: GenerationMode, examples: int, start: int
    ) -> None:
        choose = random.Random(f"{start} {operation.label} {mode}")

        @seed(start)
        @settings(
            max_examples=examples,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy(generation_mode=mode))
        def send(case: Case[Any]) -> None:
            self._tame(case, choose)
            self._send(case)

        try:
            send()
        except Exception as error:
            # An operation without parameters or body has no invalid form.
            if mode is GenerationMode.POSITIVE or type(error).__name__ not in {"Unsatisfiable", "InvalidArgument"}:
                raise

    def _tame(self, case: Case[Any], choose: random.Random) -> None:
        """Let most requests reach what lies behind the name check, and keep their answers short."""
        if isinstance(case.body, dict):
            if "model" in case.body and choose.random() < 0.8:
                case.body["model"] = choose.choice(self._models)
            if choose.random() < 0.9:
                for name in ("max_tokens", "max_completion_tokens", "min_tokens", "max_new_tokens"):
                    if isinstance(case.body.get(name), int | float):
                        case.body[name] = choose.randint(1, MAX_TOKENS)
        named = case.path_parameters and "name" in case.path_parameters and case.method.upper() != "DELETE"
        if named and choose.random() < 0.5:
            case.path_parameters["name"] = choose.choice(self._models)

    def _send(self, case: Case[Any]) -> None:
        request = case.as_transport_kwargs(base_url=self._url)
        try:
            response = self._client.request(
                request["method"],
                request["url"],
                params=request.get("params"),
                headers=dict(request.get("headers") or {}),
                **_content(request),
            )
        except (httpx.InvalidURL, UnicodeError, ValueError):
            return  # not a request that HTTP can carry
        self._findings.take(case.operation.label, case.body, response)

    def by_mutation(self, bodies: dict[str, dict[str, Any]], examples: int, *, start: int) -> None:
        """`examples` changes of good bodies, by path: fields replaced, added and dropped, and bytes broken."""
        choose = random.Random(start)
        for path, good in bodies.items():
            for _ in range(examples):
                sent = _mutated_bytes(good, choose)
                response = self._client.post(path, content=sent, headers={"content-type": "application/json"})
                self._findings.take(f"POST {path}", sent, response)


def _content(request: dict[str, Any]) -> dict[str, Any]:
    """The body of a request as `requests` would send it, for httpx."""
    if "json" in request:
        return {"content": json.dumps(request["json"]).encode("utf-8", "surrogatepass")}
    given: dict[str, Any] = {}
    if request.get("files"):
        files = request["files"]
        pairs = files.items() if isinstance(files, dict) else files
        given["files"] = [(name, _file(value)) for name, value in pairs]
    data = request.get("data")
    if data is not None:
        given["data" if isinstance(data, dict) else "content"] = data
    return given


def _file(value: Any) -> Any:
    """A part of a form as httpx takes it; what is no text or bytes is sent as its text."""
    if isinstance(value, tuple):
        return (value[0], _file(value[1]), *value[2:])
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


_ODD: tuple[Callable[[random.Random], Any], ...] = (
    lambda choose: None,
    lambda choose: choose.choice([True, False]),
    lambda choose: choose.choice([0, -1, 1, 2**31, -(2**63), 2**64, 10**30]),
    lambda choose: choose.choice([0.0, -0.5, 1e308, 1e-320, 0.1]),
    lambda choose: choose.choice(["", "\x00", "\ud800", "🙂" * 50, "a" * 5000, "../../etc/passwd", "<|im_start|>"]),
    lambda choose: [],
    lambda choose: {},
    lambda choose: [[choose.randint(-5, 300)] * choose.randint(0, 4)] * choose.randint(1, 3),
    lambda choose: {"type": choose.choice(["json_object", "json_schema", "text", "function", 7])},
    lambda choose: {
        "type": "json_schema",
        "json_schema": {"name": "a", "schema": {"type": choose.choice(["object", "x", []])}},
    },
    lambda choose: {str(choose.randint(-5, 300)): choose.choice([1, -101, "x", None])},
    lambda choose: [
        {"role": choose.choice(["user", "tool", "assistant", 3]), "content": choose.choice(["a", None, [], [{}]])}
    ],
)
_FIELDS = (
    "model", "prompt", "messages", "max_tokens", "max_completion_tokens", "n", "best_of", "echo", "logprobs",
    "top_logprobs", "prompt_logprobs", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "stop_token_ids",
    "logit_bias", "presence_penalty", "frequency_penalty", "repetition_penalty", "min_tokens", "ignore_eos", "stream",
    "stream_options", "response_format", "tools", "tool_choice", "guided_json", "guided_regex", "guided_choice",
    "structured_outputs", "adapter_id", "task", "fallback", "user", "lora", "inputs", "parameters",
    "add_special_tokens", "tokens",
)  # fmt: skip


def _mutated_bytes(good: dict[str, Any], choose: random.Random) -> bytes:
    body = json.loads(json.dumps(good))
    for _ in range(choose.randint(1, 3)):
        name = choose.choice([*body, *_FIELDS] if choose.random() < 0.8 else list(body) or ["model"])
        if choose.random() < 0.15:
            body.pop(name, None)
        else:
            target = body["parameters"] if isinstance(body.get("parameters"), dict) and choose.random() < 0.5 else body
            target[name] = choose.choice(_ODD)(choose)
    content = bytearray(json.dumps(body).encode("utf-8", "surrogatepass"))
    if choose.random() < 0.1:
        for _ in range(choose.randint(1, 4)):
            content[choose.randrange(len(content))] = choose.randrange(256)
    return bytes(content[: choose.randrange(len(content))] if choose.random() < 0.05 else content)
