"""The replayer, against a broker: everything arrives once, where any Kafka client would put it, and the
ticks keep the world's clock."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import pytest
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.partitioner import DefaultPartitioner

from schemas.topics import INPUTS, TICKS, VISITS
from streams.settings import Settings
from streams.sources.delivery import Redelivered, Shuffled
from streams.sources.record import MAX_VALUE_BYTES, SourceError, SourceRecord
from streams.sources.replayer import ReplayError, ReplayReport, TickPlan, replay

NOON = 1_772_452_800_000
Lanes = dict[tuple[str, int], list[ConsumerRecord[bytes, bytes]]]


def records(count: int, *, start: int = NOON, step: int = 10) -> list[SourceRecord]:
    """Records of 50 customers over all topics, by time, the last one at start + (count - 1) * step."""
    return [
        SourceRecord(INPUTS[n % len(INPUTS)], b"customer-%d" % (n % 50), b'{"n":%d}' % n, start + n * step)
        for n in range(count)
    ]


@pytest.fixture
def settings(kafka: str) -> Settings:
    """Settings of a deployment of its own, whose topics exist."""
    settings = Settings(kafka=kafka, partitions=3, topic_prefix=f"t{uuid.uuid4().hex[:8]}-")
    asyncio.run(create_topics(settings))
    return settings


async def create_topics(settings: Settings) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.kafka)
    await admin.start()
    try:
        await admin.create_topics(
            [NewTopic(settings.topic(t.name), settings.partitions, 1) for t in (*INPUTS, TICKS)]
        )
    finally:
        await admin.close()


async def consume(settings: Settings, until: dict[tuple[str, int], int]) -> Lanes:
    """Everything in the deployment's topics up to the given offsets, by (topic, partition)."""
    consumer = AIOKafkaConsumer(
        bootstrap_servers=settings.kafka, auto_offset_reset="earliest", enable_auto_commit=False
    )
    await consumer.start()
    try:
        found: Lanes = defaultdict(list)
        lanes = {TopicPartition(settings.topic(name), p): (name, p) for name, p in until}
        consumer.assign(list(lanes))
        deadline = time.monotonic() + 30
        while any(not found[lane] or found[lane][-1].offset < last for lane, last in until.items()):
            assert time.monotonic() < deadline, f"not all of {until} came"
            for partition, batch in (await consumer.getmany(timeout_ms=200)).items():
                found[lanes[partition]] += batch
        return found
    finally:
        await consumer.stop()


def run(
    source: Iterable[SourceRecord],
    settings: Settings,
    *,
    ticks: TickPlan | None = None,
    rate: float | None = None,
) -> tuple[ReplayReport, Lanes]:
    async def both() -> tuple[ReplayReport, Lanes]:
        report = await replay(source, settings, ticks=ticks, rate=rate)
        return report, await consume(settings, report.last_offsets)

    return asyncio.run(both())


def test_every_record_arrives_once_in_order_in_the_partition_of_its_key(settings: Settings) -> None:
    sent = records(20_000)
    before = time.time() * 1000 - 1
    report, lanes = run(sent, settings)
    after = time.time() * 1000 + 1
    partitions = list(range(settings.partitions))
    expected: dict[tuple[str, int], list[bytes]] = defaultdict(list)
    for topic, key, value, _ in sent:
        expected[topic.name, DefaultPartitioner()(key, partitions, partitions)].append(value)
    assert {lane: [r.value for r in found] for lane, found in lanes.items()} == expected
    assert all(before <= r.timestamp <= after for found in lanes.values() for r in found)
    assert report.sent == Counter(record.topic.name for record in sent)
    assert report.total == 20_000
    assert report.bytes == sum(len(r.value) for r in sent)
    assert report.max_event_time == sent[-1].at
    assert report.last_offsets == {lane: len(values) - 1 for lane, values in expected.items()}
    assert (report.ticks, report.drained) == (0, True)


def test_the_ticks_say_the_highest_event_time_then_go_beyond_the_last_session(settings: Settings) -> None:
    report, lanes = run(records(5_000), settings, ticks=TickPlan(every=1_000))
    said = {p: [json.loads(r.value)["at"] for r in lanes[TICKS.name, p]] for p in range(3)}
    running = [NOON + (n * 1_000 - 1) * 10 for n in range(1, 6)]
    assert said == {p: [*running, running[-1] + settings.policy.gap + 1_000] for p in range(3)}
    assert report.ticks == 6
    assert all(r.key is None for p in range(3) for r in lanes[TICKS.name, p])


def test_disorder_never_makes_a_tick_go_back(settings: Settings) -> None:
    class Sorted(list[SourceRecord]):
        fraction = 0.0

    _, lanes = run(Shuffled(Sorted(records(5_000)), seed=7), settings, ticks=TickPlan(every=500))
    said = [json.loads(r.value)["at"] for r in lanes[TICKS.name, 0]]
    assert said == sorted(said)
    assert said[-2] == NOON + 49_990


def test_times_that_will_be_refused_do_not_move_the_clock(settings: Settings) -> None:
    odd = [-2_134_949_234_000, 15_000, int(time.time() * 1000) + 3_600_000, 4_294_967_296_000, None]
    source = [SourceRecord(VISITS, b"c", b"{}", at) for at in (*odd, NOON, *odd)]
    report, lanes = run(source, settings, ticks=TickPlan())
    assert report.max_event_time == NOON
    assert [json.loads(r.value) for r in lanes[TICKS.name, 0]] == [{"at": NOON + settings.policy.gap + 1_000}]


def test_nothing_to_tell_the_time_by_means_no_tick(settings: Settings) -> None:
    report, _ = run([SourceRecord(VISITS, None, b"?", None)], settings, ticks=TickPlan())
    assert (report.ticks, report.max_event_time, report.total) == (0, None, 1)


def test_draining_ticks_on_until_all_is_worked_off(settings: Settings) -> None:
    asked: list[int] = []

    async def drained(report: ReplayReport) -> bool:
        asked.append(report.total)
        return len(asked) == 3

    report, lanes = run(records(40), settings, ticks=TickPlan(drained=drained, resend_s=0.01))
    assert asked == [40, 40, 40]
    assert report.drained
    assert len(lanes[TICKS.name, 0]) == report.ticks == 3


def test_draining_gives_up_at_its_deadline_and_says_so(settings: Settings) -> None:
    async def never(report: ReplayReport) -> bool:
        return False

    report, _ = run(records(40), settings, ticks=TickPlan(drained=never, resend_s=0.01, deadline_s=0.2))
    assert not report.drained


def test_records_without_a_key_and_of_the_greatest_size_arrive_as_they_are(settings: Settings) -> None:
    values = [b"{", b"x" * MAX_VALUE_BYTES, b"", *[b"y" * 100_000] * 9]
    _, lanes = run([SourceRecord(VISITS, None, value, None) for value in values], settings)
    assert Counter(r.value for found in lanes.values() for r in found) == Counter(values)
    assert all(r.key is None for found in lanes.values() for r in found)


def test_a_rate_is_kept(settings: Settings) -> None:
    report, _ = run(records(300), settings, rate=600)
    assert report.seconds >= 0.45


def test_progress_ends_at_everything(settings: Settings) -> None:
    class Half(list[SourceRecord]):
        fraction = 0.5

    told: list[tuple[int, float]] = []
    asyncio.run(replay(Half(records(1_200)), settings, progress=lambda *seen: told.append(seen)))
    assert told == sorted(told)
    assert told[-1] == (1_200, 0.5)


def test_a_source_that_fails_is_sent_up_to_where_it_failed(settings: Settings) -> None:
    def failing() -> Iterator[SourceRecord]:
        yield from records(700)
        raise SourceError("the file is damaged")

    partitions = [0, 1, 2]
    expected: dict[tuple[str, int], list[bytes]] = defaultdict(list)
    for topic, key, value, _ in records(700):
        expected[topic.name, DefaultPartitioner()(key, partitions, partitions)].append(value)

    async def both() -> Lanes:
        with pytest.raises(SourceError, match="the file is damaged"):
            await replay(failing(), settings)
        return await consume(settings, {lane: len(values) - 1 for lane, values in expected.items()})

    lanes = asyncio.run(both())
    assert {lane: [r.value for r in found] for lane, found in lanes.items()} == expected


def test_missing_topics_and_other_partition_counts_are_told_before_anything_is_sent(
    kafka: str, settings: Settings
) -> None:
    missing = Settings(kafka=kafka, topic_prefix="nobody-made-")
    with pytest.raises(ReplayError, match="topic nobody-made-visits is not there; create it with"):
        asyncio.run(replay(records(1), missing))
    more = Settings(kafka=kafka, topic_prefix=settings.topic_prefix, partitions=5)
    with pytest.raises(ReplayError, match="has 3 partitions where 5 are configured"):
        asyncio.run(replay(records(1), more))


def test_a_broker_that_is_not_there_is_told_in_one_sentence() -> None:
    with pytest.raises(ReplayError, match=r"the Kafka broker at 127.0.0.1:1 cannot be reached"):
        asyncio.run(replay(records(1), Settings(kafka="127.0.0.1:1")))


def test_redelivery_sends_each_tenth_record_again_and_nothing_else() -> None:
    class Given(list[SourceRecord]):
        fraction = 1.0

    sent = Given(records(95))
    twice = list(Redelivered(sent, every=10, after=20))
    assert Counter(twice) == Counter(sent) + Counter(sent[9::10])
    assert twice.index(sent[9]) == 9
    assert twice[30] == sent[9]


def test_shuffling_is_decided_by_its_seed() -> None:
    class Given(list[SourceRecord]):
        fraction = 1.0

    sent = Given(records(100))
    assert list(Shuffled(sent, 1)) == list(Shuffled(sent, 1))
    assert list(Shuffled(sent, 1)) != list(Shuffled(sent, 2))
    assert Counter(Shuffled(sent, 1)) == Counter(sent)
