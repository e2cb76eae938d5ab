"""What a soak has published, damaged and asked, and every answer that must not be."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

import httpx

MOST_WRONG = 10
"""A soak ends early when it has found so much."""

_FAILURES = {
    404: {"model_not_found", "adapter_not_found", "not_found"},
    429: {"queue_full"},
    503: {"engine_unavailable", "adapter_unavailable", "store_busy", "corrupt_adapter"},
    504: {"deadline_exceeded"},
}
"""The errors that a good request may end with: what is broken on purpose shows as one of these."""

_OF_DAMAGE = ("checksum_mismatch", "load_failed", "too_large")


@dataclass
class Ledger:
    """`published`: digests by name; `damaged`: digests whose files were broken; `gone`: names deleted for good."""

    published: dict[str, set[str]] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    gone: set[str] = field(default_factory=set)
    leaving: set[str] = field(default_factory=set)
    outcomes: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    _answers: set[tuple[str, str]] = field(default_factory=set)

    def publish(self, name: str, digest: str) -> None:
        """A version was published under a name."""
        self.published.setdefault(name, set()).add(digest)

    def must(self, condition: bool, what: str) -> None:
        """Note `what` as wrong where the condition does not hold."""
        if not condition:
            self.wrong.append(what)

    def answered(self, model: str, response: httpx.Response, *, known_gone: bool) -> None:
        """Judge the whole answer to a good request; `known_gone`: the name had been deleted before it was sent."""
        if response.status_code != 200:
            self._failed(model, response, known_gone=known_gone)
            return
        self.must(not known_gone, f"{model} was answered after its deletion")
        body = response.json()
        self.must(body["choices"][0]["finish_reason"] in ("stop", "length"), f"{model} has no finish: {body}")
        self.tell(model, body["switchyard"])

    def _failed(self, model: str, response: httpx.Response, *, known_gone: bool) -> None:
        code = _code(response)
        self.outcomes[f"{response.status_code} {code}"] += 1
        self.must(
            code in _FAILURES.get(response.status_code, ()), f"{model}: {response.status_code} {response.text[:400]}"
        )
        if code == "adapter_unavailable":
            self._may_be_damaged(model, response.text)
        if response.status_code == 404:
            name = model.partition("@")[0]
            self.must(known_gone or name in self.leaving, f"{model} is there and was not found")
        if response.status_code == 429:
            self.must(int(response.headers.get("retry-after", 0)) >= 1, "a 429 without Retry-After")

    def tell(self, model: str, told: dict[str, object]) -> None:
        """Judge what an answer says of the adapter that it came from."""
        fallback = told["fallback"]
        if isinstance(fallback, dict):
            reason = str(fallback["reason"])
            self.outcomes[f"200 from the base: {reason}"] += 1
            self.must(told["adapter"] == "base" and told["digest"] is None, f"{model}: a fallback to {told}")
            self._may_be_damaged(model, reason)
            return
        self.outcomes["200"] += 1
        self._answers.add((model, str(told["digest"])))

    def _may_be_damaged(self, model: str, said: str) -> None:
        """A version is called damaged only where a version of its name was."""
        if any(reason in said for reason in _OF_DAMAGE):
            name = model.partition("@")[0]
            self.must(bool(self.damaged & self.published.get(name, set())), f"{model} is whole: {said}")

    def stream_failed(self, model: str, error: dict[str, object]) -> None:
        """Judge the error that a stream ended with."""
        self.outcomes[f"stream: {error['code']}"] += 1
        self.must(error["code"] in ("engine_unavailable", "deadline_exceeded"), f"{model}: a stream ended with {error}")

    def judge_answers(self) -> None:
        """Hold every answer's digest against those of its name; at the end, when all publications are known."""
        for model, digest in sorted(self._answers):
            name, _, selector = model.partition("@")
            if name == "base":
                self.must(digest == "None", f"base was answered by {digest}")
            else:
                self.must(digest in self.published.get(name, ()), f"{model} was answered by {digest}")
            if selector.startswith("sha256:"):
                self.must(digest == selector, f"{model} was answered by {digest}")

    def summary(self) -> str:
        """Counts of everything, in a few lines."""
        return f"outcomes {_counts(self.outcomes)}\nfaults {_counts(self.faults)}"


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name}: {count}" for name, count in _sorted(counts.items()))


def _sorted(items: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    return sorted(items, key=lambda item: (-item[1], item[0]))


def _code(response: httpx.Response) -> str:
    try:
        return str(response.json()["error"]["code"])
    except (json.JSONDecodeError, KeyError, TypeError):
        return "no error object"
