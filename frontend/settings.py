"""Every number that an operator may turn, with its unit, default and reason. From `VOICEFORGE_*` variables or the CLI."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

FOREIGN_MODELS = ("nova*", "enhanced*", "base", "base-*", "whisper*", "gpt-*transcribe*", "gpt-*realtime*")
"""What applications written for Deepgram and OpenAI ask for."""


class Settings(BaseSettings):
    """Read from the environment; `Settings(port=…)` overrides."""

    model_config = SettingsConfigDict(env_prefix="VOICEFORGE_", extra="ignore")

    host: str = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535)] = 8080
    api_keys: Annotated[list[SecretStr], NoDecode] = []
    """Comma-separated in the environment. None: only loopback clients are served."""
    model: Annotated[list[str], NoDecode, Field(min_length=1)] = ["auto"]
    """Comma-separated in the environment; the first is the default of sessions that name none. `auto`: a cached or
    downloadable base.en, else the checkpoint in the box; or a name, a folder, a hub repo."""
    model_aliases: dict[str, str] = dict.fromkeys(FOREIGN_MODELS, "")
    """Model names of other services to ours, as shell patterns, the first that fits; "" is the server's model. A loaded
    model keeps its own name. As JSON in the environment."""
    precision: str = "auto"
    """`auto`: int8, the cheapest on CPUs; fp16 is for GPUs."""
    model_repository: Path = Path("model_repository")
    triton: str | None = None
    """`HOST:PORT` of an external Triton's gRPC, or several with commas; None starts the embedded one."""

    workers: Annotated[int, Field(ge=1, le=64)] = 1
    """Front ends in processes of their own, on one port. One serves a few hundred streams; more want more."""
    max_connections: Annotated[int, Field(ge=1)] = 200
    """Beyond it the handshake is refused with 503. Two cores keep their promise up to about a tenth of this with all
    of them speaking; idle streams cost almost nothing."""
    admit_lag_s: Annotated[float, Field(gt=0)] = 0.3
    """While finals or the VAD take longer than this to come back, new sessions are refused with 503: those that run keep
    their promise of a final within half a second."""
    admit_partial_wait_s: Annotated[float, Field(gt=0)] = 0.5
    """The same while the first partial of an utterance waits longer than this for the engine: it comes after a second
    then, which is when people begin to wonder."""
    max_frame_bytes: Annotated[int, Field(ge=1024)] = 512 * 1024
    """One frame. 1.3 s of 48 kHz stereo float32, the widest format; live clients send 3-20 KB."""
    no_data_timeout_s: float = 10.0
    """Without audio or keep_alive for so long, a client is taken for gone."""
    max_session_s: float = 1800.0
    ping_interval_s: float = 20.0
    handshake_timeout_s: float = 10.0
    resume_s: Annotated[float, Field(ge=0)] = 60.0
    """For so long a session waits for a client that has vanished and may go on with it; 0: it does not wait."""
    resume_deepgram: bool = False
    """Go on with sessions by Deepgram's `x-deepgram-session-id` too. Off: its Python SDK sends one id with all streams of a
    client object, so that one caller's stream could go on with another's."""
    max_parked: Annotated[int, Field(ge=0)] = 100
    """Sessions that wait for their clients; the one that has waited longest makes room."""
    parked_memory_mb: Annotated[int, Field(ge=1)] = 64
    """What they may hold: a second of audio each, or the segment that was being spoken; a decoder of coded audio 5 MB."""
    slow_client_s: float = 20.0
    """A client that reads nothing for so long is closed; up to then its results wait in a bounded outbox."""
    max_outbox: int = 256
    """Results that wait for a slow client; partials of one segment replace each other and count once."""
    max_backlog_s: float = 20.0
    """Audio received ahead of the engine per stream; then the socket is not read until the engine catches up."""
    decoder_patience_s: float = 10.0
    """A decoder of coded audio that gives and wants nothing for so long is killed, and its stream ends."""
    decoder_memory_mb: Annotated[int, Field(ge=16)] = 256
    """What one may take; speech takes 5, the rest is for large messages and for tags with pictures."""
    max_upload_bytes: Annotated[int, Field(ge=1024)] = 2 * 1024**3
    """A recording, sent or fetched: Deepgram's limit. It waits on disk while it is transcribed."""
    upload_timeout_s: float = 600.0
    """For a recording to arrive."""
    allow_private_urls: bool = False
    """Callbacks to and recordings from hosts that are not public. Off: clients could reach what only the server may."""
    callback_secret: SecretStr | None = None
    """Signs callbacks (docs/deepgram.md); without it they are not signed."""
    callback_attempts: Annotated[int, Field(ge=1, le=100)] = 8
    """For one message, after 0.5, 1, 2 … 30 s: about a minute and a half in all."""
    drain_s: float = 20.0
    """After SIGTERM, how long running sessions may take to get their finals."""

    @field_validator("api_keys", "model", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        """pydantic reads lists from the environment as JSON; commas are easier to set."""
        return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value

    @property
    def tritons(self) -> list[str]:
        """Addresses of external servers."""
        return [part.strip() for part in (self.triton or "").split(",") if part.strip()]

    @property
    def keys(self) -> list[str]:
        return [key.get_secret_value() for key in self.api_keys]
