"""What the front end counts, in Prometheus' terms. One object a server, so tests do not share counts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, ProcessCollector, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_LATENCY = (0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 2.0, 5.0, 10.0)


class Metrics:
    """See docs/operating.md for what each means to an operator."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        r = self.registry
        ProcessCollector(registry=r)
        self.connections = Gauge("voiceforge_connections", "Open WebSocket connections", registry=r)
        self.parked = Gauge("voiceforge_parked_sessions", "Sessions that wait for a client that vanished", registry=r)
        self.resumed = Counter("voiceforge_resumed", "Sessions that a client went on with", registry=r)
        self.refused = Counter("voiceforge_refused", "Handshakes refused, by error code", ["code"], registry=r)
        self.errors = Counter("voiceforge_errors", "Errors told to clients, by error code", ["code"], registry=r)
        self.closed = Counter("voiceforge_sessions", "Sessions ended, by reason", ["reason"], registry=r)
        self.callbacks = Counter("voiceforge_callbacks", "Results sent to callbacks, by outcome", ["outcome"], registry=r)
        self.audio = Counter("voiceforge_audio_seconds", "Audio received", registry=r)
        self.speech = Counter("voiceforge_speech_seconds", "Audio of segments that got a final", registry=r)
        self.partials = Counter("voiceforge_partials", "Partial results sent", registry=r)
        self.finals = Counter("voiceforge_finals", "Final results sent", registry=r)
        self.vad = Histogram("voiceforge_vad_seconds", "Round trip of a VAD request", buckets=_LATENCY, registry=r)
        self.partial = Histogram(
            "voiceforge_partial_seconds", "Round trip of a partial decode", buckets=_LATENCY, registry=r
        )
        self.final = Histogram(
            "voiceforge_final_seconds",
            "From the endpoint (or finalize) to the final, queue included",
            buckets=_LATENCY,
            registry=r,
        )
        self.backlog = Gauge("voiceforge_backlog_seconds", "Audio received and not yet heard, over all sessions", registry=r)
        self.outbox = Gauge("voiceforge_outbox_messages", "Messages waiting for slow clients, over all sessions", registry=r)
        self.finals_waiting = Gauge(
            "voiceforge_finals_waiting", "Finals queued or being decoded, over all sessions", registry=r
        )
        self.partial_wait = Gauge(
            "voiceforge_partial_wait_seconds", "Longest wait of an utterance's first partial for its place", registry=r
        )
        self.partial_places = Gauge(
            "voiceforge_partial_places", "Partials that may be under way at once; few when finals would be late", registry=r
        )
        self.engine_lag = Gauge(
            "voiceforge_engine_lag_seconds", "What new sessions are admitted by: how far the engine is behind", registry=r
        )
        self.engine_ready = Gauge("voiceforge_engine_ready", "1 when the last canary went through Triton", registry=r)
        self.engine_restarts = Gauge("voiceforge_engine_restarts", "Times the embedded Triton was started again", registry=r)

    def text(self) -> bytes:
        return generate_latest(self.registry)


def merged(texts: Mapping[str, str]) -> bytes:
    """Several workers' metrics as one exposition: every sample gets the label `worker`."""

    class All(Collector):
        def collect(self) -> Iterator[Metric]:
            families: dict[str, Metric] = {}
            for worker, text in sorted(texts.items()):
                for family in text_string_to_metric_families(text):
                    into = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
                    for sample in family.samples:
                        into.add_sample(sample.name, {**sample.labels, "worker": worker}, sample.value)
            yield from families.values()

    registry = CollectorRegistry()
    registry.register(All())
    return generate_latest(registry)
