"""What the framework itself refuses has OpenAI's form too."""

import httpx
import pytest
from fastapi import FastAPI

from server.api.errors import install_error_handlers

pytestmark = pytest.mark.anyio


async def test_a_parameter_that_the_framework_refuses_is_named() -> None:
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/pages")
    async def pages(size: int) -> int:
        return size

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost") as client:
        refused = await client.get("/pages", params={"size": "many"})
    assert refused.status_code == 400
    error = refused.json()["error"]
    assert (error["param"], error["type"], error["code"]) == ("size", "invalid_request_error", "invalid_value")
