"""What a worker tells of itself: metrics, whether it is well, and its log, a line a problem.

Counting happens once a batch, never once an event. What can be looked up is looked up when somebody asks, on
the worker's own event loop, so that an answer is also proof that the loop turns.
"""

from __future__ import annotations

import json
import logging
import logging.config
import threading
import time
from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

from aiohttp import web
from mode import Service
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from streams.settings import ROLES, Settings, SettingsError

#: The worker itself, whichever part of it speaks.
WORKER_LOG: Final = "ebbtide"
log = logging.getLogger(WORKER_LOG)

T = TypeVar("T")

#: One a process: a worker process has one role.
REGISTRY: Final = CollectorRegistry()
for _collector in (ProcessCollector, PlatformCollector, GCCollector):
    _collector(registry=REGISTRY)  # process_*, python_*: memory, processor time, open files

_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


def _counter(name: str, says: str, *labels: str) -> Counter:
    return Counter(name, says, labels, registry=REGISTRY)


def _histogram(name: str, says: str, *labels: str) -> Histogram:
    return Histogram(name, says, labels, registry=REGISTRY, buckets=_BUCKETS)


# All names there are. Counters end with _total and begin anew with the process, unless said otherwise. Labels
# have few values: topics, partitions, tables, reasons, endpoints of alerts.yaml; never a customer or a shop.

#: Every role but the sink. Batches worked off, and how long each took from being taken to being acked.
BATCH_SECONDS: Final = _histogram("ebbtide_batch_seconds", "one batch, until it may be acked")
#: customers: input records by what became of them: applied, duplicate, late, rejected.
RECORDS: Final = _counter("ebbtide_records", "input records, by fate", "topic", "fate")
#: customers: records refused, by reason. Erasures and ticks are topics too.
DEAD_LETTERS: Final = _counter("ebbtide_dead_letters", "records refused", "topic", "reason")
#: customers: facts sent, by their topic.
FACTS: Final = _counter("ebbtide_facts", "facts sent", "topic")
#: sink: rows stored, how long an insert took, and attempts that ClickHouse did not answer.
SINK_ROWS: Final = _counter("ebbtide_sink_rows", "rows stored", "table")
SINK_SECONDS: Final = _histogram("ebbtide_sink_insert_seconds", "one insert, with its retries", "table")
SINK_RETRIES: Final = _counter("ebbtide_sink_retries", "attempts that ClickHouse did not answer")
#: shops: minutes judged and told, corrections among them; and revisions of alerts, by kind and status.
WINDOWS: Final = _counter("ebbtide_loss_windows", "minutes of series told")
ALERTS: Final = _counter("ebbtide_alerts", "revisions of alerts told", "kind", "status")
#: hooks: attempts to deliver, by what became of it: delivered, waiting (for another), dead, cancelled.
HOOK_ATTEMPTS: Final = _counter("ebbtide_hook_attempts", "attempts to deliver", "endpoint", "outcome")

#: Looked up when asked for: name -> (what it says, labels).
GAUGES: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    # every role
    "ebbtide_ready": ("1: partitions are assigned and recovered, and what it writes to is there", ()),
    "ebbtide_recovering": ("1: partitions are being assigned, or their changelogs read back", ()),
    "ebbtide_partitions": ("partitions assigned", ()),
    "ebbtide_lag_records": ("records that are there and not acked", ("topic",)),
    "ebbtide_commit_age_seconds": ("since the last commit, while there is something to commit; else 0", ()),
    "ebbtide_recovered_rows": ("changelog rows read to recover, since the process began", ()),
    "ebbtide_recovery_seconds": ("spent on it", ()),
    "ebbtide_state_rows": ("rows of the table held in memory", ()),
    "ebbtide_state_bytes": ("of memory that they take, about", ()),
    # customers
    "ebbtide_watermark_seconds": ("event time that the partition has come to, since 1970", ("partition",)),
    "ebbtide_watermark_delay_seconds": ("wall clock less watermark", ("partition",)),
    "ebbtide_deadlines": ("customers that time alone will change", ()),
    # sink
    "ebbtide_sink_waiting_rows": ("rows taken in and not stored yet", ()),
    "ebbtide_sink_delay_seconds": ("since the oldest of them came in", ()),
    "ebbtide_clickhouse_away_seconds": ("since it was found away; 0: it is there", ()),
    # shops
    "ebbtide_minutes_behind": ("minutes complete and not judged yet, of the partition furthest behind", ()),
    "ebbtide_alerts_open": ("alerts that stand; held ones are told to nobody", ("kind", "status")),
    # hooks
    "ebbtide_hooks_waiting": ("deliveries that wait for an attempt", ("endpoint",)),
    "ebbtide_hooks_disabled": ("1: the endpoint said that it is gone, and is sent nothing", ("endpoint",)),
}


class Sample(NamedTuple):
    """A gauge as it is now; labels in the order of GAUGES."""

    name: str
    value: float
    labels: tuple[str, ...] = ()


#: What an agent can tell of itself when asked.
Tells = Callable[[], Iterable[Sample]]


class Gauges(Collector):
    """Asks each of ``sources`` whenever metrics are read."""

    def __init__(self) -> None:
        self.sources: list[Tells] = []

    def collect(self) -> Iterator[Metric]:
        families: dict[str, GaugeMetricFamily] = {}
        for source in self.sources:
            for name, value, labels in source():
                family = families.get(name)
                if family is None:
                    says, names = GAUGES[name]
                    family = families[name] = GaugeMetricFamily(name, says, labels=names)
                family.add_metric(labels, value)
        yield from families.values()


GAUGES_READ: Final = Gauges()
REGISTRY.register(GAUGES_READ)


@contextmanager
def timed(histogram: Histogram) -> Iterator[None]:
    """Observe how long the block takes, if it comes to its end."""
    started = time.perf_counter()
    yield
    histogram.observe(time.perf_counter() - started)


def count_records(topic: str, fates: Mapping[str, int]) -> None:
    """Count a batch's records of an input topic, by fate."""
    for fate, count in fates.items():
        if count > 0:
            RECORDS.labels(topic, fate).inc(count)


def count_reasons(topic: str, reasons: Iterable[str]) -> None:
    """Count refused records."""
    for reason, count in Tally(reasons).items():
        DEAD_LETTERS.labels(topic, reason).inc(count)


def count_facts(prefix: str, records: dict[str, list[T]]) -> dict[str, list[T]]:
    """``records`` as they are, by topic with the deployment's ``prefix``, counted."""
    for topic, each in records.items():
        FACTS.labels(topic.removeprefix(prefix)).inc(len(each))
    return records


def metrics_address(settings: Settings, role: str) -> tuple[str, int] | None:
    """Host and port where the worker of ``role`` tells of itself; None if it does not.

    EBBTIDE_METRICS is the first role's; each other role adds its place in the list of them, so that all can
    run on one machine. Port 0 is any that is free.
    """
    if not settings.metrics:
        return None
    host, _, port = settings.metrics.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 65_000:
        raise SettingsError(f"EBBTIDE_METRICS={settings.metrics!r} is not of the form HOST:PORT")
    return host.strip("[]"), int(port) + ROLES.index(role) if int(port) else 0


class TelemetryError(RuntimeError):
    """The worker cannot tell of itself; the text is one sentence."""


class MetricsServer(Service):
    """Serves ``/metrics``, ``/healthz`` and ``/readyz`` from the worker's event loop.

    failed, unready: why the worker is not well, or not ready, in a sentence; empty if it is. An address that
    is taken, or is none of this machine's, raises TelemetryError at the start.
    """

    abstract = False

    def __init__(
        self, address: tuple[str, int], failed: Callable[[], str], unready: Callable[[], str]
    ) -> None:
        super().__init__()
        self._address, self._failed, self._unready = address, failed, unready
        self._runner: web.AppRunner | None = None

    @property
    def addresses(self) -> list[Any]:
        """Where it listens: of each, host and port first."""
        return [] if self._runner is None else self._runner.addresses

    async def on_start(self) -> None:
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/healthz", self._healthz)
        app.router.add_get("/readyz", self._readyz)
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        host, port = self._address
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as exc:
            raise TelemetryError(f"EBBTIDE_METRICS cannot be used: {exc.strerror}") from exc
        log.info("metrics on http://%s:%d", *self.addresses[0][:2])

    async def on_stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(REGISTRY), headers={"Content-Type": "text/plain; version=0.0.4"}
        )

    async def _healthz(self, _: web.Request) -> web.Response:
        return _answer(self._failed())

    async def _readyz(self, _: web.Request) -> web.Response:
        return _answer(self._unready())


def _answer(why_not: str) -> web.Response:
    return web.Response(text=f"{why_not or 'ok'}\n", status=503 if why_not else 200)


class OneLine(logging.Formatter):
    """A line a record, however long its traceback: as text, or as one JSON object."""

    def __init__(self, role: str, as_json: bool) -> None:
        super().__init__()
        self._role, self._as_json = role, as_json

    def format(self, record: logging.LogRecord) -> str:
        message = " ".join(record.getMessage().split())
        error = record.exc_info[1] if record.exc_info else None
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"
        if not self._as_json:
            cause = f" ({_named(error)})" if error is not None else ""
            return f"{at} {record.levelname} {self._role} {record.name}: {message}{cause}"
        said: dict[str, Any] = {
            "time": at,
            "level": record.levelname.lower(),
            "role": self._role,
            "logger": record.name,
            "message": message,
        }
        if error is not None:
            said |= {"error": type(error).__name__, "why": " ".join(str(error).split())}
        return json.dumps(said, ensure_ascii=False)


def _named(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


class SaidOnce(logging.Filter):
    """Leaves out what Faust says of a crash, twice and more, beside the one line of ``WorkerApp``."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not any(text in str(record.msg) for text in ("Crashed reason=", "We experienced a crash"))


def log_as(settings: Settings, role: str) -> dict[str, Any]:
    """Log so from now on; what Python itself would write over many lines goes the same way.

    Gives what ``logging.config.dictConfig`` was given, for whoever configures it again.
    """
    config = log_config(settings, role)
    logging.config.dictConfig(config)
    logging.captureWarnings(True)
    threading.excepthook = _thread_failed
    return config


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    name = args.thread.name if args.thread is not None else "?"
    error = args.exc_value or args.exc_type()
    log.error("thread %s failed", name, exc_info=(args.exc_type, error, args.exc_traceback))


def log_config(settings: Settings, role: str) -> dict[str, Any]:
    """For ``logging.config.dictConfig``: all goes to standard error, a line a record."""
    as_json = settings.log_format == "json"
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"line": {"()": OneLine, "role": role, "as_json": as_json}},
        "filters": {"once": {"()": SaidOnce}},
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "line", "filters": ["once"]}},
        "root": {"level": "WARNING", "handlers": ["out"]},
        # Where metrics are is always said: with port 0 there is no other way to know it.
        "loggers": {WORKER_LOG: {"level": "INFO"}},
    }
