"""Health, metrics and the playground page, beside the WebSocket on the same port."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from frontend.inference.health import Health
from frontend.observability.metrics import Metrics
from frontend.server.gateway import Gateway
from frontend.server.siblings import OWN, Siblings

EXPOSITION = "text/plain; version=0.0.4; charset=utf-8"
PAGE = Path(__file__).parent.parent / "page"


def application(
    health: Health, metrics: Metrics, gateway: Gateway, routes: Sequence[BaseRoute] = (), siblings: Siblings | None = None
) -> Starlette:
    """`routes` are those of the protocols; `siblings` the other workers, when there are."""

    async def healthz(_: Request) -> Response:
        """The process lives."""
        return PlainTextResponse("ok\n")

    async def readyz(_: Request) -> Response:
        """A canary went through Triton just now, and new sessions are taken."""
        ready = await health.check()
        metrics.engine_ready.set(ready)
        if gateway.draining:
            return JSONResponse({"ready": False, "reason": "shutting down"}, 503)
        if not ready:
            return JSONResponse({"ready": False, "reason": health.problem}, 503)
        return JSONResponse({"ready": True})

    async def exposition(_: Request) -> Response:
        return Response(await siblings.metrics(metrics) if siblings else metrics.text(), media_type=EXPOSITION)

    async def own_exposition(_: Request) -> Response:
        """This worker's."""
        return Response(metrics.text(), media_type=EXPOSITION)

    async def index(_: Request) -> Response:
        return FileResponse(PAGE / "index.html")

    return Starlette(
        routes=[
            Route("/", index),
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", exposition),
            Route(OWN, own_exposition),
            *routes,
            Mount("/page", StaticFiles(directory=PAGE)),
        ]
    )
