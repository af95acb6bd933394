"""A Faust app set up for exactness, and running it as a process that stops at the first failure."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import faust
import faust.streams
import faust.transport.conductor
from faust.exceptions import ConsumerNotStarted
from mode.supervisors import CrashingSupervisor
from yarl import URL

from streams.adapters.kafka.recovery import Tables
from streams.adapters.kafka.security import faust_credentials
from streams.adapters.kafka.table import StateTable
from streams.adapters.kafka.transport import SCHEME, Consumer, Producer
from streams.adapters.kafka.watchdog import EXIT_CODE, LoopGuard, Watchdog, end_process, say
from streams.adapters.telemetry import GAUGES_READ, MetricsServer, Sample, Tells, log_as, metrics_address
from streams.settings import Settings

#: Record batches stay below the broker's default limit of 1 MiB for a batch.
BATCH_BYTES = 1_000_000
MAX_REQUEST_BYTES = 8 * 1024 * 1024
FETCH_BYTES = 4 * 1024 * 1024
#: Containers made, beyond those freed, before Python looks for cycles among them.
YOUNG_CONTAINERS = 50_000
_A_DAY_S = 86_400.0
_FAIL_STOP_S = 10.0
_STOP_S = 15.0

logger = logging.getLogger(__name__)


class BundleSchema(faust.Schema):
    """Passes a bundle through as it is: a list of ``fetching.Record``, not empty, in offset order."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:
            del propagate  # nothing here can fail
            return create_event(None, message.value, None, message)

        return decode


class WorkerApp(faust.App):
    """The app of one role; made by ``make_faust_app``."""

    consumer: Consumer
    producer: Producer
    guard: LoopGuard
    watchdog: Watchdog
    recovery_deadline_s: float
    settings: Settings
    role: str
    #: Asked one after the other: a sentence of the first that is not ready is why the worker is not.
    unready: list[Callable[[], str]]
    #: What the role's agent can tell of itself.
    tells: list[Tells]
    _drain_s: float
    _must_drain: bool
    _places_wanted: bool

    def bundles(self, *topics: str) -> Any:
        """The channel of an agent that takes bundles of these topics (names on the broker), one at a time."""
        return self.topic(*topics, schema=BundleSchema(), key_type=bytes, value_type=bytes)

    def _new_consumer(self) -> Consumer:
        consumer: Consumer = super()._new_consumer()
        consumer.max_records = self.settings.batch_records
        consumer.drain_s = self._drain_s
        consumer.must_drain = self._must_drain
        consumer.places_wanted = self._places_wanted
        return consumer

    def _crash(self, reason: BaseException) -> None:
        # Wherever a failure begins, it ends here: agents stop, the group is left, then the process goes.
        if not self.crashed:
            say(str(reason) or type(reason).__name__)
            _end_after(_FAIL_STOP_S, f"the worker did not stop within {_FAIL_STOP_S:g} s of its failure")
        super()._crash(reason)

    async def on_start(self) -> None:
        await super().on_start()
        await self.add_runtime_dependency(self.watchdog)
        if (address := metrics_address(self.settings, self.role)) is not None:
            GAUGES_READ.sources.append(self.gauges)
            await self.add_runtime_dependency(MetricsServer(address, self.why_failed, self.why_unready))

    def why_failed(self) -> str:
        """A sentence; empty if nothing has failed. A worker that was asked to stop has not."""
        return "the worker has failed, and is stopping" if self.crashed else ""

    def why_unready(self) -> str:
        """A sentence; empty if the worker works."""
        if self.crashed or self.should_stop:
            return "the worker is stopping"
        if self.rebalancing or self.in_recovery or not self.consumer.assignment():
            return "partitions are being assigned and recovered"
        return next(filter(None, (why() for why in self.unready)), "")

    def gauges(self) -> Iterable[Sample]:
        """What any worker can tell of itself."""
        consumer, restored, prefix = self.consumer, self.tables.recovery, self.settings.topic_prefix
        tables = [table for table in self.tables.values() if isinstance(table, StateTable)]
        yield Sample("ebbtide_ready", not self.why_unready())
        yield Sample("ebbtide_recovering", self.rebalancing or self.in_recovery)
        yield Sample("ebbtide_partitions", len({tp.partition for tp in consumer.assignment()}))
        for topic, records in sorted(consumer.lag().items()):
            yield Sample("ebbtide_lag_records", records, (topic.removeprefix(prefix),))
        yield Sample("ebbtide_commit_age_seconds", consumer.commit_age_s)
        yield Sample("ebbtide_recovered_rows", restored.rows)
        yield Sample("ebbtide_recovery_seconds", restored.seconds)
        yield Sample("ebbtide_state_rows", sum(map(len, tables)))
        yield Sample("ebbtide_state_bytes", sum(table.approx_bytes() for table in tables))
        for tell in self.tells:
            yield from tell()

    async def _stop_consumer(self) -> None:
        try:
            await self.tables.recovery.abandon()
            if self._consumer is not None and not self.crashed and self._consumer.assignment():
                await self._consumer.quiesce()
                # All is done and committed; a join in progress would hold the client for a minute or more.
                _end_after(_STOP_S, "left without waiting for the group", 0)
        except ConsumerNotStarted:
            pass
        await super()._stop_consumer()


def make_faust_app(
    settings: Settings,
    role: str,
    *,
    compression: str | None = None,
    must_drain: bool = True,
    places_wanted: bool = False,
    data_dir: Path | None = None,
) -> WorkerApp:
    """The Faust app of a role, not started.

    ``must_drain``: a bundle still in work when its partition is revoked ends the process, because its state
    would be written under another owner; False for a role whose writes may be repeated by anyone.
    ``places_wanted``: the records of a bundle are ``aiokafka.ConsumerRecord``s, which know their partition.
    Raises RuntimeError without Faust's compiled parts: pure Python acknowledges what it skips; SettingsError
    if EBBTIDE_METRICS is no address.
    """
    require_cython()
    metrics_address(settings, role)
    if data_dir is None:
        data_dir = Path(tempfile.mkdtemp(prefix="ebbtide-"))
        atexit.register(shutil.rmtree, data_dir, ignore_errors=True)
    session_s = settings.session_timeout_s
    app = WorkerApp(
        settings.group(role),
        broker=[URL(f"{SCHEME}://{address.strip()}") for address in settings.kafka.split(",")],
        broker_credentials=faust_credentials(settings),
        broker_client_id=f"ebbtide-{role}",
        broker_commit_interval=1.0,
        broker_session_timeout=session_s,
        broker_heartbeat_interval=min(3.0, session_s / 6),
        broker_request_timeout=max(session_s, 40.0),
        broker_rebalance_timeout=max(60.0, session_s * 2),
        # Nothing fetched for this long while the store is away must not cost the membership.
        broker_max_poll_interval=_A_DAY_S,
        broker_check_crcs=True,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=FETCH_BYTES,
        processing_guarantee="at_least_once",
        producer_acks="all",
        producer_linger=0.0,
        producer_max_batch_size=BATCH_BYTES,
        producer_max_request_size=MAX_REQUEST_BYTES,
        producer_compression_type=compression,
        # Retries end before the group could have given the partitions to somebody else.
        producer_request_timeout=max(5.0, session_s * 2 / 3),
        producer_threaded=False,
        agent_supervisor=CrashingSupervisor,
        stream_wait_empty=False,
        # Back-pressure is ours: no more than a few bundles are ever queued.
        stream_buffer_maxsize=1_000_000,
        stream_recovery_delay=0.0,
        store="memory://",
        TableManager=Tables,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        reply_create_topic=False,
        web_enabled=False,
        autodiscover=False,
        datadir=str(data_dir),
        worker_redirect_stdouts=False,
    )
    app.settings = settings
    app.role, app.unready, app.tells = role, [], []
    app.guard = LoopGuard(session_s / 2)
    app.recovery_deadline_s = settings.recovery_deadline_s
    app.watchdog = Watchdog(
        app, settings.watchdog_s, settings.recovery_deadline_s + settings.watchdog_s + 2 * session_s
    )
    app._drain_s = max(5.0, session_s * 0.8)
    app._must_drain = must_drain
    app._places_wanted = places_wanted
    return app


def run_worker(app: WorkerApp, loglevel: str = "WARNING") -> int:
    """Run until a signal (exit code 0) or a failure (1); gives the exit code, never raises."""
    _collect_seldom()
    logs = log_as(app.settings, app.role)  # what goes wrong before the worker runs is said as well
    worker = app.Worker(loglevel=loglevel, redirect_stdouts=False, quiet=True, logging_config=logs)
    worker.spinner = None  # it writes control sequences, whatever it is told
    try:
        worker.execute_from_commandline()
    except SystemExit as exc:
        return int(exc.code or 0)
    except BaseException as exc:
        logger.critical("The worker failed: %r", exc)
        return 1
    return 0


def _collect_seldom() -> None:
    # A batch makes tens of thousands of short-lived containers and hardly a cycle. Looking for one at every
    # 700 of them, as Python does, costs a tenth of the time; what is there at the start stays anyway.
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_CONTAINERS, 20, 50)


def require_cython() -> None:
    """RuntimeError, one sentence, where Faust's compiled parts are missing."""
    if faust.streams._CStreamIterator is None or faust.transport.conductor.ConductorHandler is None:
        hint = "unset NO_CYTHON" if os.environ.get("NO_CYTHON") else "install a faust-streaming wheel"
        raise RuntimeError(
            f"Faust's compiled parts are missing and the worker is not safe without them: {hint}"
        )


def _end_after(delay_s: float, reason: str, code: int = EXIT_CODE) -> None:
    timer = threading.Timer(delay_s, end_process, args=(reason, code))
    timer.daemon = True
    timer.start()
