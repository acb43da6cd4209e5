"""One error tree. Every error that a client can see has a stable code, a close code, an HTTP status, and says what to do.

VoiceForgeError
├── InvalidMessage        INVALID_MESSAGE         1008  400   not JSON, not an object, unknown type, wrong field
├── InvalidConfig         INVALID_CONFIG          1008  400   a setting out of range or unknown
├── InvalidAudio          INVALID_AUDIO_FORMAT    1008  415   encoding, sample rate or channels that are not supported
│   └── UndecodableAudio  INVALID_AUDIO_FORMAT    1008  415   fatal: nothing makes sound of the bytes of a stream
├── MessageTooBig         MESSAGE_TOO_BIG         1009  413   a frame over the limit
├── Unauthorized          UNAUTHORIZED            1008  401   no key, or a wrong one
├── TooManyConnections    TOO_MANY_CONNECTIONS    1013  503   retryable
├── EngineBusy            ENGINE_BUSY             1013  503   retryable; one more session would make all of them late
├── ShuttingDown          SHUTTING_DOWN           1012  503   retryable
├── NoData                NO_DATA                 1011  408   neither audio nor keep_alive for too long
├── SessionTooLong        SESSION_TOO_LONG        1008  408   the session limit was reached; open a new one
├── UnknownSession        UNKNOWN_SESSION         1008  404   `session=` names none that waits; begin a new one
├── SessionInUse          SESSION_IN_USE          1008  409   `session=` names one whose client is connected
├── SessionDiffers        SESSION_DIFFERS         1008  409   `session=` with other settings than the session has
├── SlowClient            SLOW_CLIENT             1008  408   results were not read
├── UnknownModel          UNKNOWN_MODEL           1008  404   `model=` names none that is loaded
│   └── ModelGone         UNKNOWN_MODEL           1008  404   fatal: the model of a running session was unloaded
├── UnusableUrl           UNUSABLE_URL            1008  400   a URL that is none, is not public, or gives no recording
├── CallbackFailed        CALLBACK_FAILED         1011  502   results could not be delivered to `callback`
├── UnknownLanguage       UNKNOWN_LANGUAGE        1008  400   `language=` names none that the model knows
├── UnsupportedTask       UNSUPPORTED_TASK        1008  400   the model cannot translate
├── EngineUnavailable     ENGINE_UNAVAILABLE      1013  503   retryable; Triton does not answer
└── EngineRejected        ENGINE_REJECTED         1011  500   Triton refused a request: a defect, ours or the model's
"""

from __future__ import annotations

from typing import ClassVar


class VoiceForgeError(Exception):
    """`str(error)` is the message for the client: one sentence of what is wrong, one of what to do."""

    code: ClassVar[str] = "INTERNAL_ERROR"
    close_code: ClassVar[int] = 1011
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False
    fatal: ClassVar[bool] = True
    """Whether the connection ends with it."""


class InvalidMessage(VoiceForgeError):
    code, close_code, status, fatal = "INVALID_MESSAGE", 1008, 400, False


class InvalidConfig(VoiceForgeError):
    code, close_code, status, fatal = "INVALID_CONFIG", 1008, 400, False


class InvalidAudio(VoiceForgeError):
    code, close_code, status, fatal = "INVALID_AUDIO_FORMAT", 1008, 415, False


class UndecodableAudio(InvalidAudio):
    fatal = True


class MessageTooBig(VoiceForgeError):
    code, close_code, status = "MESSAGE_TOO_BIG", 1009, 413


class Unauthorized(VoiceForgeError):
    code, close_code, status = "UNAUTHORIZED", 1008, 401


class TooManyConnections(VoiceForgeError):
    code, close_code, status, retryable = "TOO_MANY_CONNECTIONS", 1013, 503, True


class EngineBusy(VoiceForgeError):
    code, close_code, status, retryable = "ENGINE_BUSY", 1013, 503, True


class ShuttingDown(VoiceForgeError):
    code, close_code, status, retryable = "SHUTTING_DOWN", 1012, 503, True


class NoData(VoiceForgeError):
    code, close_code, status = "NO_DATA", 1011, 408


class SessionTooLong(VoiceForgeError):
    code, close_code, status = "SESSION_TOO_LONG", 1008, 408


class UnknownSession(VoiceForgeError):
    code, close_code, status = "UNKNOWN_SESSION", 1008, 404


class SessionInUse(VoiceForgeError):
    code, close_code, status = "SESSION_IN_USE", 1008, 409


class SessionDiffers(VoiceForgeError):
    code, close_code, status = "SESSION_DIFFERS", 1008, 409


class SlowClient(VoiceForgeError):
    code, close_code, status = "SLOW_CLIENT", 1008, 408


class UnknownModel(VoiceForgeError):
    code, close_code, status, fatal = "UNKNOWN_MODEL", 1008, 404, False


class UnusableUrl(VoiceForgeError):
    code, close_code, status = "UNUSABLE_URL", 1008, 400


class CallbackFailed(VoiceForgeError):
    code, close_code, status = "CALLBACK_FAILED", 1011, 502


class ModelGone(UnknownModel):
    fatal = True


class UnknownLanguage(VoiceForgeError):
    code, close_code, status, fatal = "UNKNOWN_LANGUAGE", 1008, 400, False


class UnsupportedTask(VoiceForgeError):
    code, close_code, status, fatal = "UNSUPPORTED_TASK", 1008, 400, False


class EngineUnavailable(VoiceForgeError):
    code, close_code, status, retryable = "ENGINE_UNAVAILABLE", 1013, 503, True


class EngineRejected(VoiceForgeError):
    code = "ENGINE_REJECTED"
