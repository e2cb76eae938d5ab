"""What a soak does to a server while it answers: publishing, moving, deleting, rotting, killing, hanging, crowding."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx

from adapters_store import AdapterStore, parse_adapter_name
from adapters_store.names import AdapterRef
from loadtest.adapters import RandomAdapter
from tests.http.client import body
from tests.http.real_server import RealServer
from tests.soak.ledger import Ledger
from tests.soak.traffic import Traffic

RANKS = (4, 8)
OVERSIZE = "oversize"
OVERSIZE_RANK = 128
"""Such an adapter is larger than the device's whole budget in a soak."""

READY_SECONDS = 240.0
"""An engine that was killed is back by then, also on a machine with much other work: starting one imports torch."""


class Disturbances:
    """Each method is one disturbance; `every` repeats one at random distances."""

    def __init__(self, server: RealServer, client: httpx.AsyncClient, traffic: Traffic, ledger: Ledger, seed: int):
        self._server = server
        self._client = client
        self._traffic = traffic
        self._ledger = ledger
        self._store = AdapterStore(server.store)
        self._random = random.Random(seed)
        self._seed = 1_000_000 * seed
        self._brief = 0

    async def every(self, seconds: float, disturb: Callable[[], Awaitable[None]], until: Callable[[], bool]) -> None:
        """Disturb again and again, about `seconds` apart, as long as `until` is false."""
        while not until():
            await asyncio.sleep(seconds * self._random.uniform(0.5, 1.5))
            if not until():
                await disturb()
                self._ledger.faults[disturb.__name__] += 1

    def write_adapter(self, directory: Path, rank: int) -> Path:
        """A new random adapter; no two have the same content."""
        self._seed += 1
        description = self._store.base()
        assert description is not None
        RandomAdapter(name="soak", rank=rank, seed=self._seed).write(directory, description)
        return directory

    def publish_now(self, name: str, rank: int | None = None) -> str:
        """Publish behind the server's back, and return the digest."""
        with tempfile.TemporaryDirectory() as directory:
            made = self.write_adapter(Path(directory) / "a", rank or self._random.choice(RANKS))
            digest = self._store.publish(parse_adapter_name(name), made).version.digest
        self._ledger.publish(name, digest)
        return digest

    async def publish_to_the_store(self) -> None:
        """A new version of a name that is asked for."""
        await asyncio.to_thread(self.publish_now, self._some_name())

    async def upload(self) -> None:
        """The same over HTTP."""
        await self._upload(self._some_name())

    async def _upload(self, name: str) -> None:
        with tempfile.TemporaryDirectory() as directory:
            made = await asyncio.to_thread(self.write_adapter, Path(directory) / "a", self._random.choice(RANKS))
            files = [("files", (path.name, path.read_bytes())) for path in sorted(made.glob("adapter_*"))]
        answer = await self._client.put(f"/v1/adapters/{name}", files=files)
        if answer.status_code in (200, 201):
            self._ledger.publish(name, answer.json()["digest"])
        self._ledger.must(answer.status_code in (201, 503), f"upload of {name}: {answer.status_code} {answer.text}")

    async def push_by_command(self) -> None:
        """The same by the command line, in a process of its own."""
        name = self._some_name()
        with tempfile.TemporaryDirectory() as directory:
            made = await asyncio.to_thread(self.write_adapter, Path(directory) / "a", self._random.choice(RANKS))
            command = (sys.executable, "-P", "-m", "server.cli", "adapters", "push", name, str(made))
            process = await asyncio.create_subprocess_exec(
                *command,
                "--url",
                self._server.url,
                "--json",
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            said, complained = await process.communicate()
        self._ledger.must(process.returncode == 0, f"push of {name}: {said!r} {complained[-500:]!r}")
        entry = await asyncio.to_thread(self._store.get, parse_adapter_name(name))
        for version in entry.versions:
            self._ledger.publish(name, version.digest)

    async def move_an_alias(self) -> None:
        """Promote, ask by the alias, and move it back where there is somewhere to go."""
        name = self._some_name()
        moved = await self._client.post(f"/v1/adapters/{name}/promote", json={"alias": "prod", "from": "latest"})
        self._ledger.must(moved.status_code in (200, 503), f"promote {name}: {moved.status_code} {moved.text}")
        if moved.status_code == 200:
            answer = await self._client.post("/v1/completions", json=body(f"{name}@prod", max_tokens=2))
            self._ledger.answered(f"{name}@prod", answer, known_gone=False)
            back = await self._client.post(f"/v1/adapters/{name}/rollback", json={"alias": "prod"})
            # 404: the alias has been nowhere else; 409: the version before is gone.
            self._ledger.must(back.status_code in (200, 404, 409, 503), f"rollback {name}: {back.text}")

    async def publish_use_and_delete(self) -> None:
        """A name that lives for seconds: requests are on their way while it is deleted, unloaded or retired."""
        self._brief += 1
        name = f"brief-{self._brief}"
        first = await asyncio.to_thread(self.publish_now, name)
        self._ledger.leaving.add(name)
        asked = [asyncio.create_task(self._ask_brief(name)) for _ in range(4)]
        await asyncio.sleep(self._random.uniform(0, 0.3))
        if self._random.random() < 0.3:
            await self._upload(name)
            retired = await self._client.post(f"/v1/adapters/{name}/retire", json={"digest": first})
            self._ledger.must(retired.status_code in (200, 409, 503), f"retire {name}: {retired.text}")
        if self._random.random() < 0.5:
            gone = await self._client.delete(f"/v1/adapters/{name}")
        else:
            gone = await self._client.post("/v1/unload_lora_adapter", json={"lora_name": name})
        self._ledger.must(gone.status_code in (200, 503), f"delete {name}: {gone.status_code} {gone.text}")
        if gone.status_code == 200:
            self._ledger.gone.add(name)
        await asyncio.gather(*asked)

    async def _ask_brief(self, name: str) -> None:
        answer = await self._client.post("/v1/completions", json=body(name, max_tokens=40))
        self._ledger.answered(name, answer, known_gone=False)

    async def rot(self) -> None:
        """Cut or flip the weights of a version under the server."""
        name = self._some_name()
        try:
            version = await asyncio.to_thread(self._store.resolve, AdapterRef(parse_adapter_name(name)))
        except Exception:  # somebody else's damage was there first
            return
        if version.digest in self._ledger.damaged or len(self._ledger.damaged) * 5 > len(self._ledger.published):
            return
        self._ledger.damaged.add(version.digest)
        weights = Path(version.directory) / "adapter_model.safetensors"
        weights.chmod(0o600)
        content = bytearray(weights.read_bytes())
        if self._random.random() < 0.5:
            content = content[:-64]
        else:
            content[-self._random.randrange(1, 1000)] ^= 1 << self._random.randrange(8)
        weights.write_bytes(content)

    async def ask_for_what_cannot_fit(self) -> None:
        """An adapter that is larger than the budget is a fallback or an error with that reason."""
        if OVERSIZE not in self._ledger.published:
            self._ledger.damaged.add(await asyncio.to_thread(self.publish_now, OVERSIZE, OVERSIZE_RANK))
        asked = body(OVERSIZE, max_tokens=2, fallback=self._random.choice(("base", "error")))
        answer = await self._client.post("/v1/completions", json=asked)
        self._ledger.answered(OVERSIZE, answer, known_gone=False)

    async def crowd(self) -> None:
        """More requests at once than the queue holds."""
        await self._traffic.burst()

    async def end_the_engine(self) -> None:
        """Kill it, or let it hang: then the server's watch must notice, kill it and start another."""
        await self._signal(self._random.choice((signal.SIGKILL, signal.SIGSTOP)))

    async def _signal(self, number: signal.Signals) -> None:
        process_id = await asyncio.to_thread(self._server.engine_process)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process_id, number)
            self._ledger.faults[number.name] += 1
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        while asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.25)
            if not Path(f"/proc/{process_id}").exists() and (await self._client.get("/ready")).status_code == 200:
                return
        self._ledger.wrong.append(f"no engine is ready {READY_SECONDS:g} s after {number.name}")

    def _some_name(self) -> str:
        """One of the names that last, the less popular ones, too."""
        return self._random.choice([name for name in self._ledger.published if name.startswith("steady")])
