"""The reference pages have every setting, metric, endpoint, field and error code, as the code has them."""

import re
from pathlib import Path

import msgspec
import pytest

from adapters_store.task_rule import Arm, Pressure, Shadow, TaskRule
from server.api.protocol.adapter_requests import NotesRequest, PromoteRequest
from server.api.protocol.strict_fields import StrictFields
from server.api.protocol.task_requests import TaskRollbackRequest
from server.config import Settings
from tests.docs.generated_tables import metric_rows, named, operations, written
from tests.docs.pages import REFERENCE, metric_families
from tests.import_graph import ROOT

PAGES = sorted(REFERENCE.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_tables_are_as_the_code_has_them(page: Path) -> None:
    assert page.read_text() == written(page.read_text()), "run `make docs`"


def test_every_setting_is_in_a_table() -> None:
    assert named("settings") == set(Settings.model_fields)


def test_every_metric_is_in_a_table() -> None:
    assert all(family.samples for family in metric_families()), "without a sample its labels are not known here"
    assert named("metrics") == set(metric_rows())


def test_every_endpoint_is_in_a_table() -> None:
    assert named("endpoints") == {tag for tag, *_ in operations()}


def test_every_request_field_and_error_is_in_a_table() -> None:
    openai = {"GenerationRequest", "CompletionRequest", "ChatRequest"}
    assert named("fields") == openai | {"ConstraintFields", "ToolFields", "GenerateBody", "GenerateParameters"}
    assert named("neutral") == openai | {"GenerateParameters"}
    assert "<!-- errors: -->" in (REFERENCE / "endpoints.md").read_text()


@pytest.mark.parametrize("request_type", [PromoteRequest, NotesRequest])
def test_every_field_of_an_action_is_described(request_type: type[StrictFields]) -> None:
    described = {
        line.split("`")[1] for line in (REFERENCE / "endpoints.md").read_text().splitlines() if line.startswith("| `")
    }
    assert request_type.acted_on <= described


def test_every_field_of_a_rule_and_of_its_rollback_is_described() -> None:
    tables = (REFERENCE / "endpoints.md").read_text()
    described = set(re.findall(r"^\| `([^`]+)`", tables, re.MULTILINE))
    parts: dict[str, type[msgspec.Struct]] = {"arms[]": Arm, "shadow[]": Shadow, "pressure": Pressure}
    of_parts = {f"{path}.{field}" for path, part in parts.items() for field in part.__struct_fields__}
    # The adapter of a shadow is told with the shadow itself, and so is what holds the pressure's borders.
    fields = (of_parts | set(TaskRule.__struct_fields__)) - {"shadow[].adapter", "pressure"}
    assert fields | TaskRollbackRequest.acted_on <= described


def test_every_link_of_the_reference_leads_somewhere() -> None:
    for document in REFERENCE.glob("*.md"):
        for target, anchor in re.findall(r"\]\(([^)#]*)(#[^)]*)?\)", document.read_text()):
            linked = (document.parent / target).resolve() if target else document
            assert linked.is_relative_to(ROOT), target
            assert linked.exists(), target
            if anchor:
                headings = re.findall(r"^#+ (.+)$", linked.read_text(), re.MULTILINE)
                assert anchor[1:] in {heading.lower().replace(" ", "-") for heading in headings}, anchor
