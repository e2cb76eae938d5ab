"""The application: routes over an engine and a store. Imports no torch, nor does anything below."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable

from fastapi import FastAPI

from adapters_store import AdapterStore
from adapters_store.task_directory import TaskDirectory
from server.api.boundary import Boundary
from server.api.context import Context, ServedModel
from server.api.errors import install_error_handlers
from server.api.metrics.registry import Metrics
from server.api.preloading.preloader import Preloader
from server.api.publishing.store_lease import StoreLease
from server.api.release import release
from server.api.routes import adapters, generation, lora, lorax, models, operations, residency, tasks, tokens
from server.api.text.tokenization import import_tokenizer_classes
from server.config import Settings
from server.engine.interface import Engine
from server.errors import EngineFailed, SwitchyardError

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 1.0


def create_app(
    settings: Settings,
    engine: Engine,
    store: AdapterStore,
    *,
    on_failure: Callable[[SwitchyardError], None] | None = None,
) -> FastAPI:
    """The HTTP server as an ASGI application.

    It answers at once; the engine starts meanwhile, and `/ready` says when inference requests are taken.
    `on_failure` is called if the engine cannot start, or has died for good: the server should then end.

    Raises:
        ConfigurationError: the preload plan is none.
    """
    metrics = Metrics(engine, adapter_labels=settings.metrics_adapter_labels)
    engine.observe(metrics.engine.observe)
    lease = StoreLease(store, lambda: _resident_digests(metrics))
    context = Context(
        settings=settings,
        engine=engine,
        store=store,
        lease=lease,
        tasks=TaskDirectory.of_store(store.root),
        metrics=metrics,
        preloader=Preloader.of_settings(settings, store.root, engine, lease.resolve),
    )

    def give_up(error: SwitchyardError) -> None:
        context.failure = error
        if on_failure is not None:
            on_failure(error)

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        await asyncio.to_thread(context.preloader.restore)
        works = (_run_engine(context, give_up), context.lease.keep(), context.preloader.run())
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
            if context.model is not None:
                await context.model.shadowing.close()
            await engine.stop()
            await context.preloader.save()
            context.close()

    app = FastAPI(
        title="Switchyard",
        description="One resident base model, many adapters, one batch, over the OpenAI API.",
        version=release(),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
    )
    app.state.context = context
    for routes in (generation, lorax, models, tokens, adapters, residency, tasks, lora, operations):
        app.include_router(routes.router)
    install_error_handlers(app)
    app.add_middleware(Boundary, settings=settings, metrics=metrics.requests)
    return app


def _resident_digests(metrics: Metrics) -> list[str]:
    """The versions on the device, as the engine said last."""
    state = metrics.engine.state
    return [] if state is None else [adapter.digest for adapter in state.resident]


async def _run_engine(context: Context, give_up: Callable[[SwitchyardError], None]) -> None:
    """Start the engine, make its base known, and watch it for the rest of the server's life."""
    try:
        await asyncio.gather(context.engine.start(), asyncio.to_thread(import_tokenizer_classes))
        model = await asyncio.to_thread(ServedModel.load, context)
        await asyncio.to_thread(context.store.describe_base, model.description)
    except SwitchyardError as error:
        logger.error("the engine could not start: %s", error.message)
        give_up(error)
        return
    except Exception as error:
        logger.exception("the engine could not start")
        give_up(EngineFailed(f"the engine could not start: {type(error).__name__}"))
        return
    context.metrics.describe_base(model.name, model.info)
    context.model = model
    logger.info("ready: %s on %s", model.name, model.info.device)
    while context.engine.status not in ("stopped", "failed"):
        await asyncio.sleep(_WATCH_SECONDS)
    if context.engine.status == "stopped":
        return
    logger.error("the engine is gone and will not be restarted")
    give_up(EngineFailed("the engine died too often and was not restarted again"))
