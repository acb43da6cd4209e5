"""Errors as OpenAI's clients read them: `{"error": {message, type, param, code}}`, over HTTP and in realtime sessions."""

from __future__ import annotations

from frontend.errors import (
    InvalidAudio,
    InvalidConfig,
    Unauthorized,
    UnknownLanguage,
    UnknownModel,
    VoiceForgeError,
)
from frontend.protocols.base import Body

_CODES: dict[type[VoiceForgeError], str] = {
    Unauthorized: "invalid_api_key",
    UnknownModel: "model_not_found",
}
"""OpenAI's codes, where it has one; the others are ours, in lower case as its codes are."""

_PARAMS: dict[type[VoiceForgeError], str] = {UnknownModel: "model", UnknownLanguage: "language"}


class WrongParameter(InvalidConfig):
    """A parameter, by the name that the client knows it by, with a value that cannot be."""

    def __init__(self, param: str, message: str) -> None:
        super().__init__(message)
        self.param = param


def status(error: VoiceForgeError) -> int:
    """The HTTP status, as OpenAI has it: audio that cannot be read is 400, which its clients have a class for."""
    return 400 if isinstance(error, InvalidAudio) else error.status


def error_object(error: VoiceForgeError, param: str | None = None) -> Body:
    """`type`, `code`, `message` and `param`; `param` names what is wrong where the error itself does not."""
    kind = "invalid_request_error" if error.status < 500 else "server_error"
    named = error.param if isinstance(error, WrongParameter) else _PARAMS.get(type(error), param)
    return {"type": kind, "code": _CODES.get(type(error), error.code.lower()), "message": str(error), "param": named}


def error_body(error: VoiceForgeError, param: str | None = None) -> Body:
    """The JSON of an HTTP answer."""
    return {"error": error_object(error, param)}
