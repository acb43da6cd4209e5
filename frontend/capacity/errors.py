"""What keeps `voiceforge capacity` from measuring. Each error has a stable code and a message that says what to do.

CapacityError
├── InvalidOption             INVALID_OPTION               an option that cannot be meant
├── NoSpeech                  NO_SPEECH                    there is nothing to say
├── CannotWrite               CANNOT_WRITE                 the folder of the report takes nothing
├── CannotStart               CANNOT_START                 the server of its own does not come up
├── ServerUnreachable         SERVER_UNREACHABLE           no VoiceForge answers there
├── StreamsRefused            the server's own code        UNAUTHORIZED, TOO_MANY_CONNECTIONS, ENGINE_BUSY, UNKNOWN_MODEL, …;
│                                                          HTTP_502 and the like when a proxy says it
├── MetricsUnreachable        METRICS_UNREACHABLE          the front end's
├── TritonMetricsUnreachable  TRITON_METRICS_UNREACHABLE   Triton's
└── ServerGone                SERVER_GONE                  it answered before; what was measured until then is reported
"""

from __future__ import annotations


class CapacityError(Exception):
    """`str(error)` is the message without the code."""

    code = "CANNOT_MEASURE"


class InvalidOption(CapacityError):
    code = "INVALID_OPTION"


class NoSpeech(CapacityError):
    code = "NO_SPEECH"


class CannotWrite(CapacityError):
    code = "CANNOT_WRITE"


class CannotStart(CapacityError):
    code = "CANNOT_START"


class ServerUnreachable(CapacityError):
    code = "SERVER_UNREACHABLE"


class StreamsRefused(CapacityError):
    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class MetricsUnreachable(CapacityError):
    code = "METRICS_UNREACHABLE"


class TritonMetricsUnreachable(CapacityError):
    code = "TRITON_METRICS_UNREACHABLE"


class ServerGone(CapacityError):
    code = "SERVER_GONE"
