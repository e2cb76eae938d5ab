"""Adapters' own templates: one conversation at a time, whoever waits for it."""

import asyncio
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from server.api.text.chat_template import AdapterTemplate, TemplateProcesses
from tests.api.harness import until

pytestmark = pytest.mark.anyio

MESSAGES = [{"role": "user", "content": "hello"}]


class Gated(TemplateProcesses):
    """Processes whose renderings wait for a gate, and are counted."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = threading.Event()
        self.at_work = 0
        self.most = 0

    def _render(self, template: str, variables: Mapping[str, Any]) -> str:
        self.at_work += 1
        self.most = max(self.most, self.at_work)
        self.gate.wait(5)
        self.at_work -= 1
        return "written"


@pytest.fixture
def processes() -> Iterator[Gated]:
    gated = Gated()
    yield gated
    gated.gate.set()
    gated.close()


async def test_a_cancelled_client_keeps_the_turn_until_its_rendering_ends(processes: Gated) -> None:
    template = AdapterTemplate(processes, "x", {})
    impatient = asyncio.create_task(template.write(MESSAGES))
    await until(lambda: processes.at_work)
    impatient.cancel()
    with pytest.raises(asyncio.CancelledError):
        await impatient
    others = [asyncio.create_task(template.write(MESSAGES)) for _ in range(3)]
    await asyncio.sleep(0.05)
    processes.gate.set()
    assert await asyncio.gather(*others) == ["written"] * 3
    assert processes.most == 1


async def test_who_goes_away_in_the_line_is_not_rendered_for(processes: Gated) -> None:
    template = AdapterTemplate(processes, "x", {})
    first, second, third = (asyncio.create_task(template.write(MESSAGES)) for _ in range(3))
    await until(lambda: processes.at_work)
    second.cancel()
    processes.gate.set()
    assert [await first, await third] == ["written"] * 2
    assert second.cancelled()
