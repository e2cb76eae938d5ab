"""What every route of one application works with."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

from fastapi import Depends, Request

from adapters_store import AdapterStore, BaseDescription
from adapters_store.base_tokenizer import describe_tokenizer
from adapters_store.task_directory import TaskDirectory
from server.api.generation.admission import Admission
from server.api.generation.prompting import Promptings
from server.api.metrics.registry import Metrics
from server.api.preloading.preloader import Preloader
from server.api.publishing.store_lease import StoreLease
from server.api.routing.adapter_demand import AdapterDemand
from server.api.routing.model_names import ModelNames
from server.api.routing.router import Router
from server.api.routing.shadowing import Shadowing
from server.api.text.tokenization import Tokenization
from server.config import Settings
from server.engine.interface import Engine
from server.engine.messages import ModelInfo
from server.errors import EngineUnavailable, SwitchyardError

_MOST_UPLOADS = 4
_MOST_TOKENIZINGS = 16
_WRITERS = 2

P = ParamSpec("P")
T = TypeVar("T")


def _writers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WRITERS, thread_name_prefix="store-write")


def _downloaders() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_MOST_UPLOADS, thread_name_prefix="hub-download")


@dataclass(frozen=True)
class ServedModel:
    """The resident base, as the API knows it once the engine is ready."""

    name: str
    info: ModelInfo
    description: BaseDescription
    tokenization: Tokenization
    admission: Admission
    names: ModelNames
    router: Router
    promptings: Promptings
    shadowing: Shadowing
    ready_at: float

    @classmethod
    def load(cls, context: "Context") -> "ServedModel":
        """Read the base's tokenizer; takes seconds.

        Raises:
            BaseModelError: it cannot be read.
        """
        settings, engine, metrics = context.settings, context.engine, context.metrics
        info = engine.info
        name = settings.served_name or info.name
        names = ModelNames(context.store, name, context.lease)
        tokenization = Tokenization.load(Path(info.directory))
        admission = Admission(info.max_rows + settings.max_queue)
        demand = AdapterDemand(lambda: metrics.engine.state)
        return cls(
            name=name,
            info=info,
            description=BaseDescription(
                name=info.base_name,
                architecture=info.architecture,
                modules=info.modules,
                tokenizer=describe_tokenizer(
                    Path(info.directory), embedding_rows=info.vocab_size, eos_token_ids=tuple(info.eos_token_ids)
                ),
            ),
            tokenization=tokenization,
            admission=admission,
            names=names,
            router=Router(
                names,
                resolve=context.lease.resolve,
                tasks=context.tasks,
                demand=demand,
                metrics=metrics.tasks,
                adapter_budget_bytes=info.adapter_budget_bytes,
            ),
            promptings=Promptings(
                tokenization, embedding_rows=info.vocab_size, eos_token_ids=tuple(info.eos_token_ids)
            ),
            shadowing=Shadowing(
                engine,
                admission,
                demand,
                metrics.tasks,
                lambda: metrics.engine.state,
                rows=info.max_rows,
                beside=settings.shadow_rows,
            ),
            ready_at=time.time(),
        )


@dataclass
class Context:
    """The parts of one application.

    `model` is set when the engine is first ready, `failure` once it never will be (again). `uploads` bounds the
    uploads on their way, `publishing` lets one at a time be checked and kept. `tokenizings` bounds the requests to
    `/tokenize` and `/detokenize` that are at work. `writes` runs what changes the store, `downloads` what fetches from
    a hub.
    """

    settings: Settings
    engine: Engine
    store: AdapterStore
    lease: StoreLease
    tasks: TaskDirectory
    metrics: Metrics
    preloader: Preloader
    model: ServedModel | None = None
    failure: SwitchyardError | None = None
    uploads: Admission = field(default_factory=lambda: Admission(_MOST_UPLOADS))
    publishing: asyncio.Lock = field(default_factory=asyncio.Lock)
    tokenizings: Admission = field(default_factory=lambda: Admission(_MOST_TOKENIZINGS))
    writes: ThreadPoolExecutor = field(default_factory=_writers)
    downloads: ThreadPoolExecutor = field(default_factory=_downloaders)

    async def write(self, change: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a change of the store in a thread.

        Not in asyncio's own threads: a change may wait for another process's lock, and reads must not stand behind it.
        """
        return await asyncio.get_running_loop().run_in_executor(self.writes, partial(change, *args, **kwargs))

    async def download(self, fetch: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run in a thread what takes minutes: neither a promotion nor a name's resolution may stand behind it."""
        return await asyncio.get_running_loop().run_in_executor(self.downloads, partial(fetch, *args, **kwargs))

    def close(self) -> None:
        """Take no more work in threads; what runs ends by itself."""
        if self.model is not None:
            self.model.promptings.close()
            self.model.tokenization.threads.close()
        for threads in (self.writes, self.downloads):
            threads.shutdown(wait=False, cancel_futures=True)

    @property
    def is_ready(self) -> bool:
        """Whether inference requests are taken now."""
        return self.model is not None and self.engine.status == "ready"

    def served_model(self) -> ServedModel:
        """The resident base, also while the engine restarts.

        Raises:
            EngineUnavailable: the engine has not finished its first start.
        """
        if self.model is None:
            if self.failure is not None:
                raise EngineUnavailable("the engine could not start; the server's log says why")
            raise EngineUnavailable("the engine is still loading the base model; /ready answers 200 when it is done")
        return self.model

    def ready_model(self) -> ServedModel:
        """The resident base, of an engine that takes requests.

        Raises:
            EngineUnavailable: it does not.
        """
        model = self.served_model()
        if not self.is_ready:
            raise EngineUnavailable(f"the engine is {self.engine.status}; /ready answers 200 when it takes requests")
        return model


def _context(request: Request) -> Context:
    context: Context = request.app.state.context
    return context


RequestContext = Annotated[Context, Depends(_context)]
