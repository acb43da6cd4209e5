"""OpenAI's REST endpoints: a recording in a form, answered whole or as a stream of events; and the models."""

from __future__ import annotations

import asyncio
import logging
import tempfile
import time
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from pathlib import Path

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import Message, Receive, Scope, Send

from frontend.batch import subtitles
from frontend.errors import InvalidAudio, SlowClient, UnknownModel, VoiceForgeError
from frontend.protocols.base import Body, StreamOptions
from frontend.protocols.openai.errors import WrongParameter, error_body, status
from frontend.protocols.openai.responses import KNOWN_MODELS, Transcript, model_body, model_list, server_sent
from frontend.protocols.openai.transcription import FILE, UNKEPT, Task, Wanted, understood
from frontend.server.forms import FormReader
from frontend.server.gateway import RETRY_AFTER_S, Gateway
from frontend.server.http_auth import admitted, authenticate
from frontend.server.intake import Arriving, Listener, in_time, transcribed, unless_gone
from frontend.server.sessions import Services, asr_stream, model_of
from frontend.speech.events import Event

log = logging.getLogger(__name__)

LINGER_S = 5.0
"""How long what a refused client still sends is read, so that it gets to the answer (nginx's lingering close)."""
IDLE = "x-voiceforge-not-in-effect"


class Transcriptions:
    """The routes. A recording is kept on disk, decoded piece by piece, and holds a connection's slot while it is."""

    def __init__(self, services: Services, gateway: Gateway) -> None:
        self._services, self._gateway = services, gateway
        self._created = int(time.time())
        """What models are said to have been created at: OpenAI's clients want a time, and exports have none."""

    def routes(self) -> list[Route]:
        return [
            Route("/v1/audio/transcriptions", _Endpoint(self._services, self._gateway, "transcribe"), methods=["POST"]),
            Route("/v1/audio/translations", _Endpoint(self._services, self._gateway, "translate"), methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/models/{name:path}", self._model),
        ]

    async def _models(self, request: Request) -> Response:
        return await self._told(request, self._all)

    async def _model(self, request: Request) -> Response:
        async def one() -> Body:
            return self._named(request.path_params["name"])

        return await self._told(request, one)

    async def _told(self, request: Request, body: Callable[[], Awaitable[Body]]) -> Response:
        exchange = _Exchange()
        try:
            authenticate(self._gateway, request)
            return JSONResponse(await body(), headers=exchange.headers)
        except VoiceForgeError as error:
            self._services.metrics.refused.labels(error.code).inc()
            return exchange.refusal(error)

    async def _all(self) -> Body:
        """Ours, then OpenAI's names that lead to one of them."""
        ours = [info.name for info in await self._services.engine.models()]
        told = [self._named(name) for name in ours]
        for name in KNOWN_MODELS:
            with suppress(UnknownModel):
                told += [] if name in ours else [self._named(name)]
        return model_list(told)

    def _named(self, name: str) -> Body:
        """Raises `UnknownModel`."""
        found = self._services.engine.model(model_of(self._services, StreamOptions(model=name)))
        return model_body(name, found.name, self._created)


@dataclass
class _Exchange:
    """What the answers to one request share."""

    request_id: str = field(default_factory=lambda: f"req_{uuid.uuid4().hex}")
    not_in_effect: tuple[str, ...] = ()

    @property
    def headers(self) -> dict[str, str]:
        idle = {IDLE: ", ".join(self.not_in_effect)} if self.not_in_effect else {}
        return {"x-request-id": self.request_id, **idle}

    def refusal(self, error: VoiceForgeError) -> JSONResponse:
        retry = {"Retry-After": str(RETRY_AFTER_S)} if error.retryable else {}
        param = FILE if isinstance(error, InvalidAudio) else None
        return JSONResponse(error_body(error, param), status(error), {**self.headers, **retry})


class _Endpoint:
    """An ASGI application, since a stream of events holds its slot for longer than a function makes its response."""

    def __init__(self, services: Services, gateway: Gateway, task: Task) -> None:
        self._services, self._gateway = services, gateway
        self._task: Task = task

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = True

        async def received() -> Message:
            nonlocal sending
            message = await receive()
            sending = bool(message.get("more_body"))
            return message

        exchange = _Exchange()
        request = Request(scope, received)
        try:
            with admitted(self._gateway, request):
                await self._answer(request, exchange, send)
        except VoiceForgeError as error:
            self._services.metrics.refused.labels(error.code).inc()
            refusal = exchange.refusal(error)
            await (_linger(refusal, received, lambda: sending, send) if sending else refusal(scope, received, send))
        except ClientDisconnect:
            log.debug("%s: the client hung up", exchange.request_id)

    async def _answer(self, request: Request, exchange: _Exchange, send: Send) -> None:
        """Raises what is to be refused; once a stream has begun, its errors are events."""
        with tempfile.NamedTemporaryFile(prefix="voiceforge-") as file:
            arriving = Arriving(file, self._services.settings.max_upload_bytes)
            wanted = understood(await self._form(request, arriving), self._task)
            exchange.not_in_effect = wanted.not_in_effect
            asr_stream(self._services, wanted.options)
            if arriving.size == 0:
                raise InvalidAudio("the file is empty; send a recording")
            path = Path(file.name)
            if wanted.form.stream:
                await unless_gone(request.receive, self._stream(wanted, path, exchange, send))
            else:
                response = await unless_gone(request.receive, self._whole(wanted, path, exchange))
                await response(request.scope, request.receive, send)

    async def _form(self, request: Request, arriving: Arriving) -> dict[str, list[str]]:
        """The fields of the form, its file written. Raises what is wrong with it."""
        length = request.headers.get("content-length", "")
        arriving.check(int(length) if length.isdecimal() else 0)
        form = FormReader(request.headers.get("content-type"), arriving, FILE, UNKEPT)
        async with in_time(self._services.settings.upload_timeout_s):
            await form.read(request.stream())
        if form.n_files != 1:
            raise WrongParameter(FILE, f"{form.n_files} files came; send one recording in the field {FILE!r}")
        arriving.finish()
        return form.fields

    async def _whole(self, wanted: Wanted, path: Path, exchange: _Exchange) -> Response:
        transcript = Transcript(wanted)
        samples = await transcribed(self._services, wanted.options, path, lambda: transcript.add)
        match wanted.form.response_format:
            case "text":
                return PlainTextResponse(f"{transcript.text}\n", headers=exchange.headers)
            case "srt" | "vtt" as format_:
                return PlainTextResponse(subtitles.FORMATS[format_](transcript.subtitled()), headers=exchange.headers)
            case _:
                return JSONResponse(transcript.body(samples), headers=exchange.headers)

    async def _stream(self, wanted: Wanted, path: Path, exchange: _Exchange, send: Send) -> None:
        """Finals as events while the recording is being decoded; begins when its audio does.

        Raises what goes wrong before that, and `ClientDisconnect` when nobody reads.
        """
        transcript = Transcript(wanted)
        begun = False

        async def tell(body: bytes, *, more: bool = True) -> None:
            try:
                async with asyncio.timeout(self._services.settings.slow_client_s):
                    await send({"type": "http.response.body", "body": body, "more_body": more})
            except TimeoutError:
                self._services.metrics.errors.labels(SlowClient.code).inc()
                raise ClientDisconnect from None

        try:
            async with aclosing(self._events(wanted.options, path)) as events:
                async for event in events:
                    if not begun:
                        begun = True
                        await send({"type": "http.response.start", "status": 200, "headers": _stream_headers(exchange)})
                    if isinstance(event, int):
                        await tell(server_sent(transcript.done(event)))
                    elif event and (final := transcript.add(event)):
                        for body in transcript.events(final):
                            await tell(server_sent(body))
        except VoiceForgeError as error:
            if not begun:
                raise
            self._services.metrics.errors.labels(error.code).inc()
            await tell(server_sent(error_body(error)))
        await tell(b"", more=False)

    async def _events(self, options: StreamOptions, path: Path) -> AsyncGenerator[Event | int | None]:
        """None when there is audio, the events of its session, the number of its samples."""
        queue: asyncio.Queue[Event | int | Exception | None] = asyncio.Queue()  # grows to the transcript's length at most

        def listener() -> Listener:
            queue.put_nowait(None)
            return queue.put_nowait

        async def work() -> None:
            try:
                queue.put_nowait(await transcribed(self._services, options, path, listener))
            except Exception as error:
                queue.put_nowait(error)

        task = asyncio.create_task(work(), name="transcription")
        try:
            while True:
                told = await queue.get()
                if isinstance(told, Exception):
                    raise told
                yield told
                if isinstance(told, int):
                    return
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _stream_headers(exchange: _Exchange) -> list[tuple[bytes, bytes]]:
    headers = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-cache", **exchange.headers}
    return [(name.encode(), value.encode()) for name, value in headers.items()]


async def _linger(response: Response, receive: Receive, sending: Callable[[], bool], send: Send) -> None:
    """Answers a request that is still being sent. Closed at once, the connection would often take the answer with it."""
    headers = [*response.raw_headers, (b"connection", b"close")]
    await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with suppress(TimeoutError):
        async with asyncio.timeout(LINGER_S):
            while sending():
                await receive()
    await send({"type": "http.response.body", "body": b"", "more_body": False})
