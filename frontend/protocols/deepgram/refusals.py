"""Errors as Deepgram's clients read them: JSON of HTTP answers, close codes of streams."""

from __future__ import annotations

from frontend.errors import (
    EngineRejected,
    EngineUnavailable,
    InvalidAudio,
    InvalidConfig,
    InvalidMessage,
    NoData,
    TooManyConnections,
    Unauthorized,
    UnknownModel,
    UnusableUrl,
    VoiceForgeError,
)
from frontend.protocols.base import Refusal

LONGEST_REASON = 123
"""Bytes of a close frame's reason (RFC 6455)."""

_HTTP: dict[type[VoiceForgeError], tuple[int, str, str]] = {
    Unauthorized: (401, "INVALID_AUTH", "Invalid credentials."),
    UnknownModel: (400, "Bad Request", "Bad Request: No such model/language/tier combination found."),
    InvalidConfig: (400, "Bad Request", "Bad Request:"),
    InvalidMessage: (400, "Bad Request", "Bad Request:"),
    InvalidAudio: (400, "Bad Request", "Bad Request: failed to process audio: corrupt or unsupported data;"),
    UnusableUrl: (400, "REMOTE_CONTENT_ERROR", "Bad Request:"),
    TooManyConnections: (429, "TOO_MANY_REQUESTS", "Too many requests. Please try again later:"),
}
"""Status, `err_code` and the beginning of `err_msg` as Deepgram documents them (developers.deepgram.com/docs/errors)."""

_CLOSE: dict[type[VoiceForgeError], tuple[int, str]] = {
    InvalidAudio: (1008, "DATA-0000"),
    NoData: (1011, "NET-0001"),
    EngineUnavailable: (1011, "NET-0000"),
    EngineRejected: (1011, "NET-0000"),
}


def refusal(error: VoiceForgeError, request_id: str) -> Refusal:
    """What Deepgram says, then what is wrong here and what to do."""
    status, code, message = _HTTP.get(_known(error), (error.status, error.code, ""))
    body = {"err_code": code, "err_msg": f"{message} {error}".strip(), "request_id": request_id}
    return Refusal(body, request_id_header(request_id), status)


def _known(error: VoiceForgeError) -> type[VoiceForgeError]:
    return InvalidAudio if isinstance(error, InvalidAudio) else type(error)


def request_id_header(request_id: str) -> dict[str, str]:
    return {"dg-request-id": request_id}


def close_frame(error: VoiceForgeError | None) -> tuple[int, str]:
    if error is None:
        return 1000, ""
    code, name = _CLOSE.get(_known(error), (error.close_code, error.code))
    reason = f"{name}: {error}"
    return code, reason.encode()[:LONGEST_REASON].decode(errors="ignore")
