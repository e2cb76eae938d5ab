"""The reference pages hold every setting, metric, endpoint, field and error code, as the code has them."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from fastapi import FastAPI
from prometheus_client import Metric

import adapters_store.errors
import server.api.errors
import server.errors
from adapters_store import AdapterStore
from server.api.app import create_app
from server.api.protocol.adapter_requests import PromoteRequest
from server.api.protocol.chat_request import ChatRequest
from server.api.protocol.completion_request import CompletionRequest
from server.api.protocol.generation_request import NEUTRAL, GenerationRequest
from server.api.protocol.strict_fields import StrictFields
from server.config import Settings
from server.errors import BaseModelError, ConfigurationError, SwitchyardError
from tests.api.scripted_engine import ScriptedEngine, model_info, saying
from tests.docs.pages import REFERENCE, field_rows, metric_families, metric_row, neutral_row, setting_row
from tests.import_graph import ROOT

# The modules whose errors are answers, and of them those that end the server before it answers.
ERROR_MODULES = {server.errors.__name__, server.api.errors.__name__, adapters_store.errors.__name__}
NEVER_ANSWERED = {ConfigurationError.code, BaseModelError.code}


@cache
def page(name: str) -> str:
    return (REFERENCE / name).read_text()


def rows(name: str) -> list[str]:
    return [line for line in page(name).splitlines() if line.startswith("| `")]


def code_names(name: str) -> set[str]:
    """What stands first in the rows of a page's tables."""
    return {line.split("`")[1] for line in rows(name)}


@pytest.mark.parametrize("name", Settings.model_fields)
def test_every_setting_is_described_with_its_default(name: str) -> None:
    assert setting_row(name) in rows("settings.md")


def test_no_setting_is_described_that_is_none() -> None:
    assert code_names("settings.md") == set(Settings.model_fields)


@pytest.mark.parametrize("family", metric_families(), ids=lambda family: family.name)
def test_every_metric_is_described_with_its_labels(family: Metric) -> None:
    assert family.samples, "without a sample its labels are not known here"
    assert metric_row(family) in rows("metrics.md")


def test_no_metric_is_described_that_is_none() -> None:
    known = {metric_row(family).split("`")[1] for family in metric_families()}
    assert code_names("metrics.md") == known


@pytest.fixture
def app(tmp_path: Path) -> FastAPI:
    engine = ScriptedEngine(model_info(tmp_path), saying([]))
    return create_app(Settings(), engine, AdapterStore(tmp_path / "store"))


def test_every_endpoint_is_described(app: FastAPI) -> None:
    described = set(re.findall(r"^\| `([A-Z]+ /\S+)` \|", page("endpoints.md"), re.MULTILINE))
    served = {
        f"{method.upper()} {path}" for path, operations in app.openapi()["paths"].items() for method in operations
    }
    assert described == served


@pytest.mark.parametrize("request_type", [GenerationRequest, CompletionRequest, ChatRequest])
def test_every_request_field_is_described(request_type: type[StrictFields]) -> None:
    assert set(field_rows(request_type)) <= set(rows("endpoints.md"))


@pytest.mark.parametrize("name", sorted(NEUTRAL.keys() - {"add_special_tokens"}))
def test_every_field_that_is_not_acted_on_is_described(name: str) -> None:
    assert neutral_row(name, NEUTRAL[name]) in rows("endpoints.md")


@pytest.mark.parametrize("request_type", [CompletionRequest, ChatRequest])
def test_every_field_that_one_endpoint_does_not_act_on_is_described(request_type: type[StrictFields]) -> None:
    own = {name: neutral for name, neutral in request_type.neutral.items() if NEUTRAL.get(name) is not neutral}
    assert {neutral_row(name, neutral) for name, neutral in own.items()} <= set(rows("endpoints.md"))


def test_every_field_of_a_promotion_is_described() -> None:
    assert PromoteRequest.acted_on <= code_names("endpoints.md")


def leaves(error: type[SwitchyardError]) -> Iterator[type[SwitchyardError]]:
    yield error
    for child in error.__subclasses__():
        yield from leaves(child)


def test_every_error_code_is_described_with_its_status() -> None:
    described = dict(re.findall(r"^\| `(\w+)` \| (\d{3}) \|", page("endpoints.md"), re.MULTILINE))
    raised = {
        error.code: str(error.status)
        for error in leaves(SwitchyardError)
        if error.code not in NEVER_ANSWERED and error.__module__ in ERROR_MODULES
    }
    assert raised.items() <= described.items()
    assert described.keys() - raised.keys() == {"method_not_allowed"}


def test_every_link_of_the_reference_leads_somewhere() -> None:
    for document in REFERENCE.glob("*.md"):
        for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", document.read_text()):
            linked = (document.parent / target).resolve() if target else document
            assert linked.is_relative_to(ROOT), target
            assert linked.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
                assert anchor[1:] in {heading.lower().replace(" ", "-") for heading in headings}, anchor
