"""`POST /v1/listen`: a recording, sent or fetched, transcribed at once or on the way to a callback."""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from frontend.errors import InvalidAudio, InvalidMessage, MessageTooBig, UnusableUrl, VoiceForgeError
from frontend.protocols.base import Body
from frontend.protocols.deepgram.live import PATH
from frontend.protocols.deepgram.query import Listen, understood
from frontend.protocols.deepgram.recorded import Recording, Transcript, response
from frontend.protocols.deepgram.refusals import refusal, request_id_header
from frontend.server.callbacks import CallbackSender
from frontend.server.conversation import now
from frontend.server.gateway import RETRY_AFTER_S, Gateway
from frontend.server.http_auth import admitted
from frontend.server.intake import Arriving, Listener, in_time, transcribed, unless_gone
from frontend.server.sessions import Services, asr_stream, model_of

log = logging.getLogger(__name__)

MOST_JSON_BYTES = 64 * 1024


@dataclass(frozen=True)
class _Job:
    """A recording that has arrived."""

    listen: Listen
    request_id: str
    created: str
    path: Path
    sha256: str


class Recordings:
    """The route. A recording is kept on disk, decoded piece by piece, and holds a connection's slot while it is."""

    def __init__(self, services: Services, gateway: Gateway) -> None:
        self._services, self._gateway = services, gateway

    def routes(self) -> list[Route]:
        return [Route(PATH, self._listen, methods=["POST"])]

    async def _listen(self, request: Request) -> Response:
        request_id = str(uuid.uuid4())
        try:
            with ExitStack() as held:
                held.enter_context(admitted(self._gateway, request))
                return await self._answer(request, request_id, held)
        except VoiceForgeError as error:
            self._services.metrics.refused.labels(error.code).inc()
            told = refusal(error, request_id)
            retry = {"Retry-After": str(RETRY_AFTER_S)} if error.retryable else {}
            return JSONResponse(told.body, told.status or error.status, {**told.headers, **retry})
        except ClientDisconnect:
            return Response(status_code=499)

    async def _answer(self, request: Request, request_id: str, held: ExitStack) -> Response:
        pairs = {name: request.query_params.getlist(name) for name in request.query_params}
        listen = understood(pairs, "recorded")
        asr_stream(self._services, listen.options)
        callback = listen.options.callback
        if callback:
            self._services.web.check(callback.url)
        file = held.enter_context(tempfile.NamedTemporaryFile(prefix="voiceforge-"))  # noqa: SIM115 - held
        sha256 = await self._receive(request, file)
        job = _Job(listen, request_id, now(), Path(file.name), sha256)
        headers = request_id_header(request_id)
        if callback is None:
            body = await unless_gone(request.receive, self._transcribed(job))
            return JSONResponse(body, headers=headers)
        task = asyncio.create_task(self._deliver(job, held.pop_all()), name="recording")
        self._gateway.handler_tasks.add(task)
        task.add_done_callback(self._gateway.handler_tasks.discard)
        return JSONResponse({"request_id": request_id}, headers=headers)

    # --- the recording's way to the disk --------------------------------------------------------------------------

    async def _receive(self, request: Request, file: IO[bytes]) -> str:
        """Writes the recording; returns its SHA-256. Raises what is wrong with it or its URL."""
        settings = self._services.settings
        arriving = Arriving(file, settings.max_upload_bytes)
        try:
            async with in_time(settings.upload_timeout_s):
                if request.headers.get("content-type", "").startswith("application/json"):
                    async with self._services.web.get(_url(await _small_body(request))) as found:
                        await _write(found.aiter_raw(), arriving)
                else:
                    await _write(request.stream(), arriving)
        except httpx.HTTPError as error:
            raise UnusableUrl(f"the recording stopped coming: {error or type(error).__name__}") from error
        return arriving.finish()

    # --- its transcript -------------------------------------------------------------------------------------------

    async def _transcribed(self, job: _Job) -> Body:
        """Raises what the sessions raise, and `InvalidAudio`."""
        services, listen = self._services, job.listen
        transcripts: list[Transcript] = []

        def channel() -> Listener:
            transcripts.append(Transcript(listen))
            return transcripts[-1].add

        duration = await transcribed(services, listen.options, job.path, channel)
        recording = Recording(job.request_id, job.created, job.sha256, duration, model_of(services, listen.options))
        return response(listen, recording, transcripts)

    async def _deliver(self, job: _Job, held: ExitStack) -> None:
        """Transcribes and tells the callback, also when it goes wrong; `held` is given back at the end."""
        services, callback = self._services, job.listen.options.callback
        assert callback
        with held:
            try:
                body = await self._transcribed(job)
            except VoiceForgeError as error:
                body = refusal(error, job.request_id).body
            try:
                async with CallbackSender(
                    services.web, callback, job.request_id, services.settings, services.metrics
                ) as sender:
                    await sender.send(json.dumps(body, ensure_ascii=False))
            except VoiceForgeError as error:
                services.metrics.errors.labels(error.code).inc()
                log.warning("recording %s: %s", job.request_id, error)


async def _write(pieces: AsyncIterator[bytes], arriving: Arriving) -> None:
    async for piece in pieces:
        arriving.write(piece)
    if arriving.size == 0:
        raise InvalidAudio("there is no recording; send its bytes, or JSON with its url as application/json")


async def _small_body(request: Request) -> bytes:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_JSON_BYTES:
            raise MessageTooBig(f"JSON over {MOST_JSON_BYTES} bytes; send an object with a url")
    return body


def _url(body: bytes) -> str:
    try:
        message = json.loads(body)
    except (ValueError, RecursionError):
        message = None
    url = message.get("url") if isinstance(message, dict) else None
    if not isinstance(url, str):
        raise InvalidMessage(
            'Content-type was application/json, but we could not process the JSON payload; send an object with a text "url"'
        )
    return url
