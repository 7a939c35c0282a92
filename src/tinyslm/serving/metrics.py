"""Metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from tinyslm.serving.answers import AnswerStream
from tinyslm.serving.models import Models

_FAST = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1)
_SLOW = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Metrics(Collector):
    """What is counted while the server runs, and the state of its engines; docs/serving.md describes each series."""

    def __init__(self, models: Models) -> None:
        self._registry = CollectorRegistry()
        labels = ["model"]
        self._requests = Counter(
            "tinyslm_requests", "Requests by route and HTTP status.", ["route", "status"], registry=self._registry
        )
        self._prompt = Counter("tinyslm_prompt_tokens", "Prompt tokens.", labels, registry=self._registry)
        self._cached = Counter(
            "tinyslm_cached_tokens", "Prompt tokens found in the cache.", labels, registry=self._registry
        )
        self._generated = Counter("tinyslm_generated_tokens", "Tokens generated.", labels, registry=self._registry)
        self._first = Histogram(
            "tinyslm_time_to_first_token_seconds",
            "From the request to its first token.",
            labels,
            buckets=_SLOW,
            registry=self._registry,
        )
        self._each = Histogram(
            "tinyslm_time_per_token_seconds",
            "Time between the tokens of a sample, averaged over each request.",
            labels,
            buckets=_FAST,
            registry=self._registry,
        )
        self._whole = Histogram(
            "tinyslm_request_seconds", "From the request to its end.", labels, buckets=_SLOW, registry=self._registry
        )
        self._registry.register(_Engines(models))

    def request(self, route: str, status: int) -> None:
        """Count a request; route: "" for unknown paths."""
        self._requests.labels(route or "other", str(status)).inc()

    def answer(self, answer: AnswerStream) -> None:
        """Count an answer that has ended."""
        model, usage, log = answer.model.name, answer.usage, answer.log
        self._prompt.labels(model).inc(usage.prompt_tokens)
        self._cached.labels(model).inc(usage.cached_tokens)
        self._generated.labels(model).inc(usage.generated_tokens)
        if log.first:
            self._first.labels(model).observe(log.first - log.begun)
            self._whole.labels(model).observe(log.last - log.begun)
            if usage.generated_tokens > answer.count:
                each = (log.last - log.first) * answer.count / (usage.generated_tokens - answer.count)
                self._each.labels(model).observe(each)

    def page(self) -> bytes:
        """All series, without the library's `*_created`, one more for each counter."""
        return generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        for metric in self._registry.collect():
            metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
            yield metric


class _Engines(Collector):
    """The state of the engines when the metrics are read."""

    def __init__(self, models: Models) -> None:
        self._models = models

    def collect(self) -> Iterator[Metric]:
        kinds = {
            "running": "Samples being generated.",
            "waiting": "Samples that wait to be scheduled.",
            "blocks_used": "Blocks of the cache in use.",
            "blocks_total": "Blocks of the cache.",
        }
        families = {
            name: GaugeMetricFamily(f"tinyslm_{name}", text, labels=["model", "engine"]) for name, text in kinds.items()
        }
        loaded = GaugeMetricFamily("tinyslm_model_loaded", "Whether the model is loaded.", labels=["model"])
        engines = self._models.loaded()
        for name in self._models.names:
            loaded.add_metric([name], float(name in engines))
        for name, engine in engines.items():
            stats = engine.stats()
            for kind, family in families.items():
                family.add_metric([name, engine.name], float(getattr(stats, kind)))
        yield loaded
        yield from families.values()
