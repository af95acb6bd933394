"""What the transport relies on inside Faust, mode and aiokafka: an upgrade that changes it fails here.

Also those defects of Faust that decided how the transport is built, where they can be shown quickly: one that
is gone may make a part of ours unnecessary.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import aiokafka
import faust
import faust.streams
import pytest
from aiokafka.consumer import fetcher as aio_fetcher
from aiokafka.consumer import group_coordinator, subscription_state
from aiokafka.producer import message_accumulator, sender
from aiokafka.record.default_records import DefaultRecord, DefaultRecordBatchBuilder
from aiokafka.structs import TopicPartition
from faust.app.base import App
from faust.auth import SASLCredentials
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport import conductor, consumer
from faust.transport.drivers import TRANSPORTS
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.auth import AuthProtocol
from faust.types.tuples import ConsumerMessage, Message
from mode.utils.queues import FlowControlEvent, ThrowableQueue

from streams.adapters.kafka.transport import Consumer, Transport
from streams.adapters.kafka.worker import make_faust_app
from streams.settings import Settings


def source(of: Any) -> str:
    return inspect.getsource(of)


def parameters(of: Any) -> list[str]:
    return list(inspect.signature(of).parameters)


# -- versions and registration


def test_the_scheme_is_known_and_leads_to_our_transport() -> None:
    app = make_faust_app(Settings(), "pins")
    assert TRANSPORTS.by_url("bundled://h:1") is Transport
    assert isinstance(app.transport, Transport)
    assert app.conf.broker_consumer[0].scheme == "bundled"


def test_fausts_compiled_parts_are_in_use() -> None:
    assert faust.streams._CStreamIterator is not None
    assert conductor.ConductorHandler is not None


def test_the_settings_that_guard_exactness_are_in_force() -> None:
    conf = make_faust_app(Settings(session_timeout_s=20.0), "pins").conf
    assert conf.processing_guarantee.value == "at_least_once"
    assert (conf.stream_wait_empty, conf.topic_allow_declare, conf.producer_threaded) == (False,) * 3
    assert (conf.web_enabled, conf.reply_create_topic, conf.topic_disable_leader) == (False, False, True)
    assert conf.table_standby_replicas == 0
    assert conf.broker_session_timeout == 20.0
    assert conf.broker_heartbeat_interval < 20.0 / 3
    assert conf.producer_request_timeout < 20.0
    assert conf.producer_acks == -1
    assert conf.consumer_auto_offset_reset == "earliest"
    assert conf.broker_max_poll_interval >= 24 * 3600
    assert conf.agent_supervisor.__name__ == "CrashingSupervisor"


# -- what is overridden has the shape it had

OVERRIDDEN: list[tuple[Any, str, list[str]]] = [
    (consumer.Consumer, "_drain_messages", ["self", "fetcher"]),
    (consumer.Consumer, "perform_seek", ["self"]),
    (consumer.Consumer, "ack", ["self", "message"]),
    (consumer.Consumer, "commit", ["self", "topics", "start_new_transaction"]),
    (consumer.Consumer, "on_task_error", ["self", "exc"]),
    (consumer.Consumer, "wait_empty", ["self"]),
    (consumer.Consumer, "close", ["self"]),
    (consumer.ThreadDelegateConsumer, "_commit", ["self", "offsets"]),
    (driver.Consumer, "_new_consumer_thread", ["self"]),
    (driver.AIOKafkaConsumerThread, "_create_worker_consumer", ["self", "transport"]),
    (driver.AIOKafkaConsumerThread, "verify_event_path", ["self", "now", "tp"]),
    (driver.AIOKafkaConsumerThread, "close", ["self"]),
    (driver.ConsumerRebalanceListener, "on_partitions_revoked", ["self", "revoked"]),
    (driver.ConsumerRebalanceListener, "on_partitions_assigned", ["self", "assigned"]),
    (driver.Producer, "_ensure_producer", ["self"]),
    (TableManager, "on_partitions_revoked", ["self", "revoked"]),
    (TableManager, "_update_channels", ["self"]),
    (Recovery, "flush_buffers", ["self"]),
    (Recovery, "_set_recovery_ended", ["self"]),
    (App, "_stop_consumer", ["self"]),
    (App, "_new_consumer", ["self"]),
]


@pytest.mark.parametrize(
    ("owner", "name", "expected"), OVERRIDDEN, ids=lambda value: getattr(value, "__name__", "")
)
def test_what_is_overridden_has_the_parameters_it_had(owner: Any, name: str, expected: list[str]) -> None:
    assert parameters(getattr(owner, name)) == expected


def test_the_tasks_that_are_replaced_are_tasks_of_these_names() -> None:
    for owner, names in (
        (consumer.Consumer, ("_commit_handler", "_commit_livelock_detector")),
        (Recovery, ("_restart_recovery", "_slurp_changelogs", "_publish_stats")),
    ):
        assert set(names) <= owner._tasks[owner._get_class_id()]


def test_table_callbacks_come_in_the_order_and_with_the_arguments_relied_on() -> None:
    assert "assigned, revoked, newly_assigned, generation_id" in source(TableManager.on_rebalance)
    rebalance = source(Recovery.on_rebalance)
    assert "self.add_active(table, tp)" in rebalance
    assert rebalance.rstrip().endswith("self._generation_id = generation_id")
    assert rebalance.index("signal_recovery_start.set()") < rebalance.rindex("_generation_id = generation_id")


def test_our_consumer_and_message_are_asked_for_by_the_compiled_stream() -> None:
    """A stream tells of a bundle it takes by ``_unacked_messages.add``, and drops stale generations."""
    app = make_faust_app(Settings(), "pins")
    assert "__dict__" in dir(ConsumerMessage("t", 0, 0, 0.0, 0, None, None, None, None))
    assert parameters(ConsumerMessage.__init__)[-1] == "generation_id"
    assert parameters(Message.ack) == ["self", "consumer", "n"]
    assert "consumer.ack(self)" in source(ConsumerMessage.on_final_ack)
    assert isinstance(app.consumer, Consumer)


def test_faust_revokes_before_it_joins_and_hands_the_generation_over() -> None:
    assigned = source(driver.ConsumerRebalanceListener.on_partitions_assigned)
    assert "consumer_generation_id = generation" in assigned
    assert "on_rebalance_start()" in source(driver.ConsumerRebalanceListener.on_partitions_revoked)
    revoked = source(App._on_partitions_revoked)
    assert revoked.index("tables.on_partitions_revoked") < revoked.index("stop_flow")
    assert "tables.on_rebalance" in source(App._on_partitions_assigned)


# -- aiokafka


def attributes(of: Any, *names: str) -> None:
    text = source(of)
    for name in names:
        assert f"self.{name}" in text, f"{of.__name__}.{name}"


def test_aiokafkas_fetcher_keeps_records_and_positions_where_we_look() -> None:
    attributes(aio_fetcher.Fetcher, "_records", "_fetch_task", "_wait_consume_future", "_subscriptions")
    attributes(aio_fetcher.FetchResult, "_created", "_partition_records")
    assert parameters(aio_fetcher.Fetcher._proc_fetch_request) == ["self", "assignment", "node_id", "request"]
    assert parameters(aio_fetcher.Fetcher.request_offset_reset) == ["self", "tps", "strategy"]
    assert parameters(aio_fetcher.FetchResult.getall) == ["self", "max_records"]
    assert parameters(aio_fetcher.PartitionRecords._consumer_record) == ["self", "tp", "record"]
    unpack = source(aio_fetcher.PartitionRecords._unpack_records)
    assert "consumer_record = self._consumer_record(tp, record)" in unpack, "looked up on the instance"
    bare = ("offset", "timestamp", "timestamp_type", "key", "value", "headers")
    attributes_of = {name for name in dir(DefaultRecord) if not name.startswith("_")}
    assert attributes_of >= set(bare), "what our agents read of a record"
    proceed = source(aio_fetcher.Fetcher._proc_fetch_request)
    success = proceed[proceed.index("if error_type is Errors.NoError") : proceed.index("records.has_next()")]
    assert "tp_state.highwater = highwater" in success
    assert "tp_state.timestamp = now_ms" in success, "set by every good answer, an empty one too"
    routine = source(aio_fetcher.Fetcher._fetch_requests_routine)
    assert "self._proc_fetch_request(assignment, node_id, request)" in routine, "looked up on the instance"


def test_aiokafka_ignores_what_was_fetched_for_another_position_or_while_paused() -> None:
    check = source(aio_fetcher.FetchResult.check_assignment)
    assert "tp_state.paused" in check
    assert "position != self._partition_records.next_fetch_offset" in check
    assert "del self._records[tp]" in source(aio_fetcher.Fetcher.seek_to)
    assert "_position" in source(subscription_state.TopicPartitionState.seek)


def test_aiokafkas_coordinator_waits_for_the_revoke_callback_and_keeps_its_heart_beating() -> None:
    ensure = source(group_coordinator.GroupCoordinator.ensure_active_group)
    assert ensure.index("_on_join_prepare") < ensure.index("_stop_heartbeat_task")
    assert "await res" in source(group_coordinator.GroupCoordinator._on_join_prepare)
    prepare = source(group_coordinator.GroupCoordinator._on_join_prepare)
    assert "previous_assignment.tps" in prepare, "everything is revoked, not only what goes elsewhere"
    attributes(group_coordinator.GroupCoordinator, "_coordination_task", "member_id", "generation")
    commit = source(group_coordinator.GroupCoordinator.commit_offsets)
    for error in ("UnknownMemberIdError", "IllegalGenerationError", "RebalanceInProgressError"):
        assert error in commit
    assert "CommitFailedError" in commit


def test_topic_partitions_of_both_libraries_are_the_same_key() -> None:
    assert {TP("t", 1): "x"}[TopicPartition("t", 1)] == "x"


def test_aiokafkas_producer_keeps_one_batch_in_flight_per_partition() -> None:
    routine = source(sender.Sender._sender_routine)
    assert "self._muted_partitions.add(tp)" in routine
    assert "wait_drain" in source(message_accumulator.MessageAccumulator.add_batch)
    assert parameters(aiokafka.AIOKafkaProducer.send_batch) == ["self", "batch", "topic", "partition"]


def test_a_full_batch_refuses_the_next_record_and_an_empty_one_takes_any() -> None:
    builder = DefaultRecordBatchBuilder(
        2, 0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=0, batch_size=1000
    )
    assert builder.append(0, 0, b"k", b"v" * 5000, []) is not None
    assert builder.append(1, 0, b"k", b"v", []) is None


# -- the defects that made us build it


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield loop
    loop.close()
    asyncio.set_event_loop(None)


def test_faust_resumes_partitions_before_the_seek_at_the_end_of_recovery() -> None:
    """The seek race: records of before the seek are handed out, and come again after it."""
    completed = source(Recovery.on_recovery_completed)
    assert completed.index("resume_partitions") < completed.index("perform_seek")
    waiting = source(consumer.Consumer._wait_next_records)
    assert "not_waiting_next_records.clear()" not in waiting
    assert waiting.count("not_waiting_next_records.set()") == 2


def test_faust_forgets_acks_before_it_commits_on_a_rebalance() -> None:
    revoked = source(consumer.Consumer.on_partitions_revoked)
    assert revoked.index("self._acked.pop") < revoked.index("self._on_partitions_revoked")
    assert "commit" not in source(App._on_partitions_revoked)


def test_faust_counts_a_failed_commit_as_one() -> None:
    text = source(consumer.Consumer._commit_offsets)
    unconditional = "        self._committed_offset.update(committable_offsets)\n"
    assert unconditional in text


def test_faust_only_logs_what_fails_in_its_recovery() -> None:
    assert "Error in recovery" in source(Recovery._slurp_changelogs.fun)
    assert "signal_recovery_end.clear()" in source(Recovery._slurp_changelogs.fun)


def test_faust_hard_codes_how_long_a_fetch_waits() -> None:
    assert "fetch_max_wait_ms=1500" in source(driver.AIOKafkaConsumerThread._create_worker_consumer)
    assert "_fetch_max_wait_ms" in source(aiokafka.AIOKafkaConsumer.start), "read when the consumer starts"
    assert "self._fetch_max_wait_ms = fetch_max_wait_ms" in source(aiokafka.AIOKafkaConsumer.__init__)


def test_sasl_credentials_without_tls_mean_cleartext_to_faust() -> None:
    assert SASLCredentials(username="u", password="p").protocol is AuthProtocol.SASL_PLAINTEXT


def test_resuming_the_flow_clears_queues(loop: asyncio.AbstractEventLoop) -> None:
    """So nothing may be in a queue when the flow begins: the fetcher is let go after it."""

    async def run() -> None:
        control = FlowControlEvent(initially_suspended=False)
        queue: ThrowableQueue[int] = ThrowableQueue(maxsize=3, flow_control=control, clear_on_resume=True)
        queue.force_put_nowait(1)
        control.resume()
        assert queue.empty()

    loop.run_until_complete(run())


def test_pure_python_streams_acknowledge_what_they_skip() -> None:
    """Why the compiled parts are required."""
    text = source(faust.streams.Stream._py_aiter)
    assert "skipped_value" in text
    module: ModuleType = faust.streams
    assert hasattr(module, "_CStreamIterator")
