"""Bodies of the routes by which clients of vLLM and SGLang add and remove adapters."""

from collections.abc import Mapping
from typing import ClassVar

from pydantic import Field

from server.api.protocol.strict_fields import Neutral, StrictFields

_EXAMPLE_NAME = "support-copy"


class LoadLoraRequest(StrictFields):
    """vLLM's `POST /v1/load_lora_adapter`."""

    neutral: ClassVar[Mapping[str, Neutral]] = {"is_3d_lora_weight": Neutral(False)}

    lora_name: str = Field("", description="The adapter's name: `[tenant/]name`.", examples=[_EXAMPLE_NAME])
    lora_path: str = Field(
        "",
        description="An absolute directory below one of `adapter_roots`, an adapter's name in the store, or `hub:…`.",
        examples=["support"],
    )
    load_inplace: bool = Field(False, description="Publish a new version where the name is there already.")
    base_model_name: str | None = Field(None, description="The base that the adapter is for, where it is named at all.")


class UnloadLoraRequest(StrictFields):
    """vLLM's `POST /v1/unload_lora_adapter`."""

    lora_name: str = Field("", description="The adapter's name: `[tenant/]name`.", examples=[_EXAMPLE_NAME])
    lora_int_id: int | None = Field(None, description="vLLM's own number of the adapter; names are enough here.")


class SglangLoadRequest(StrictFields):
    """SGLang's `POST /load_lora_adapter`."""

    neutral: ClassVar[Mapping[str, Neutral]] = {
        "lora_id": Neutral(),
    }

    lora_name: str = Field(min_length=1, description="The adapter's name: `[tenant/]name`.", examples=[_EXAMPLE_NAME])
    lora_path: str = Field(
        min_length=1,
        description="An absolute directory below one of `adapter_roots`, an adapter's name in the store, or `hub:…`.",
        examples=["support"],
    )
    pinned: bool = Field(False, description="Keep it on the device, whatever the traffic says.")


class SglangUnloadRequest(StrictFields):
    """SGLang's `POST /unload_lora_adapter`."""

    neutral: ClassVar[Mapping[str, Neutral]] = {"lora_id": Neutral()}

    lora_name: str = Field(min_length=1, description="The adapter's name: `[tenant/]name`.", examples=[_EXAMPLE_NAME])
