"""The options that `run` and `sweep` share."""

import dataclasses
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import typer


class PopularityName(StrEnum):
    """Which adapters are asked how often."""

    UNIFORM = "uniform"
    ZIPF = "zipf"
    DRIFTING = "drifting"
    DIURNAL = "diurnal"
    BURSTY = "bursty"


def _option(text: str, panel: str, **more: Any) -> Any:
    return typer.Option(help=text, rich_help_panel=panel, **more)


_GENERATED_REQUESTS = 200
_GENERATED_WARM_UP = 32
_SERVER, _LOAD, _TRACE, _OUTPUT = "Server", "Load", "Trace", "Output"


@dataclass(frozen=True)
class LoadOptions:
    """What is loaded, with what."""

    url: Annotated[str | None, _option("Load this server rather than one of our own.", _SERVER)] = None
    api_key: Annotated[str | None, _option("The server's API key.", _SERVER, envvar="SWITCHYARD_API_KEY")] = None
    base: Annotated[str, _option("Base model of our own server.", _SERVER)] = "smollm2-135m"
    store: Annotated[Path | None, _option("Store of our own server, kept; else a temporary one.", _SERVER)] = None
    publish: Annotated[int, _option("Random adapters to publish to it.", _SERVER, min=1)] = 16
    ranks: Annotated[str, _option("Their ranks, in turn.", _SERVER)] = "8,16,32"
    target_modules: Annotated[str, _option("Modules they adapt, such as q_proj,v_proj; else all.", _SERVER)] = ""
    cache: Annotated[
        int | None, _option("Give our own server's device room for so many of the largest of them.", _SERVER, min=1)
    ] = None
    adapters: Annotated[int | None, _option("How many adapters to ask; else all published.", _LOAD, min=1)] = None
    clients: Annotated[str | None, _option("Closed loop: clients at a time. The default is 16.", _LOAD)] = None
    rate: Annotated[str | None, _option("Open loop: requests a second, whatever the server does.", _LOAD)] = None
    requests: Annotated[
        int | None, _option("Requests that are measured; else 200, or the whole of a trace.", _LOAD, min=1)
    ] = None
    warm_up: Annotated[
        int | None, _option("Requests before them that are not; else 32, or none of a trace.", _LOAD, min=0)
    ] = None
    popularity: Annotated[PopularityName, _option("Which adapters are asked how often.", _LOAD)] = PopularityName.ZIPF
    zipf: Annotated[float, _option("Exponent of the popularity.", _LOAD, min=0)] = 1.0
    period: Annotated[float, _option("Seconds of a drifting or diurnal popularity's round.", _LOAD, min=0)] = 600.0
    burst: Annotated[float, _option("Seconds of a bursty adapter's burst.", _LOAD, min=0)] = 10.0
    pace: Annotated[float, _option("Requests a second that a closed loop's popularity goes by.", _LOAD, min=0)] = 10.0
    prompt_tokens: Annotated[
        str, _option("Prompts: 64, uniform:16,128, lognormal:64,0.6[,MOST] or seen:20,90,400.", _LOAD)
    ] = "64"
    output_tokens: Annotated[str, _option("Answers, likewise.", _LOAD)] = "48"
    seed: Annotated[int, _option("Seed of everything random.", _LOAD)] = 0
    trace: Annotated[
        Path | None,
        _option("Replay a trace (JSONL, BurstGPT or Azure CSV), all of it; open loop, unless --clients.", _TRACE),
    ] = None
    speed_up: Annotated[float, _option("Replay it so many times as fast.", _TRACE)] = 1.0
    adapter_column: Annotated[
        str | None, _option("Column of a CSV whose every value has its adapter; else they are drawn.", _TRACE)
    ] = None
    longest_prompt: Annotated[int | None, _option("Cut its prompts to so many tokens.", _TRACE, min=1)] = None
    longest_output: Annotated[int | None, _option("Cut its answers to so many tokens.", _TRACE, min=1)] = None
    out: Annotated[Path | None, _option("Write the result to this file, for `report`.", _OUTPUT)] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print it as JSON.", rich_help_panel=_OUTPUT)] = False

    @property
    def measured_requests(self) -> int | None:
        """How many requests are measured; None for all that a trace has."""
        if self.requests is None and self.trace is None:
            return _GENERATED_REQUESTS
        return self.requests

    @property
    def warm_up_requests(self) -> int:
        """How many requests come before them."""
        if self.warm_up is None:
            return _GENERATED_WARM_UP if self.trace is None else 0
        return self.warm_up


def with_load_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command's `options: LoadOptions` as options of the command line, beside its own parameters."""
    names = [field.name for field in dataclasses.fields(LoadOptions)]
    hints = get_type_hints(LoadOptions, include_extras=True)

    def invoke(**given: Any) -> None:
        command(options=LoadOptions(**{name: given.pop(name) for name in names}), **given)

    own = [p for p in inspect.signature(command).parameters.values() if p.name != "options"]
    shared = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in dataclasses.fields(LoadOptions)
    ]
    own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
    own_hints = get_type_hints(command, include_extras=True)
    own = [parameter.replace(annotation=own_hints[parameter.name]) for parameter in own]
    invoke.__signature__ = inspect.Signature([*own, *shared])  # type: ignore[attr-defined]
    invoke.__annotations__ = {parameter.name: parameter.annotation for parameter in (*own, *shared)}
    invoke.__doc__ = command.__doc__
    invoke.__name__ = command.__name__
    return invoke
