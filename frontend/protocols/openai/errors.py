"""Errors as OpenAI's clients read them: `{type, code, message, param}`."""

from __future__ import annotations

from frontend.errors import (
    InvalidConfig,
    SessionTooLong,
    TooManyConnections,
    Unauthorized,
    UnknownModel,
    VoiceForgeError,
)
from frontend.protocols.base import Body

_CODES: dict[type[VoiceForgeError], str] = {
    Unauthorized: "invalid_api_key",
    UnknownModel: "model_not_found",
    InvalidConfig: "invalid_value",
    TooManyConnections: "rate_limit_exceeded",
    SessionTooLong: "session_expired",
}
"""OpenAI's codes where it has one for the same; the others are ours, in lower case."""


def error_object(error: VoiceForgeError, param: str | None = None) -> Body:
    kind = "server_error" if error.status >= 500 else "invalid_request_error"
    return {"type": kind, "code": _CODES.get(type(error), error.code.lower()), "message": str(error), "param": param}
