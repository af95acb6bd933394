"""Topics as the contract declares them, and where groups stand. Blocking calls, for the command line."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, Final

import aiokafka.errors
from aiokafka import AIOKafkaConsumer, TopicPartition
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import GroupIdNotFoundError, KafkaError, TopicAlreadyExistsError

from schemas import topics
from streams.adapters.kafka.security import aiokafka_kwargs, kafka_python_kwargs
from streams.settings import Settings

_UNKNOWN_TOPIC: Final = 3
_TIMEOUT_S: Final = 30.0
_BOOTSTRAP_S: Final = 10.0
#: A partition whose last record has been deleted, or is a marker, gives none: no reason to wait long.
_STAMPS_S: Final = 5.0

Partition = tuple[str, int]


class AdminError(RuntimeError):
    """The broker cannot be reached or refused; the text is one sentence."""


@dataclass(frozen=True, slots=True)
class Lag:
    """One partition as a group sees it, in offsets; ``committed`` is None before the first commit."""

    topic: str
    partition: int
    committed: int | None
    end: int

    @property
    def records(self) -> int:
        """Offsets between what was committed and the end."""
        return self.end - (self.committed or 0)


def create_topics(settings: Settings, wanted: Iterable[topics.Topic] = topics.ALL) -> list[str]:
    """Create the topics that are missing, leave the others alone; gives the new names on the broker.

    Returns when each new partition has a leader. Raises AdminError.
    """
    with _admin(settings) as admin:
        here = _describe(admin, [settings.topic(topic.name) for topic in wanted])
        missing = {
            settings.topic(topic.name): {
                "num_partitions": settings.partitions,
                "replication_factor": settings.replication,
                "configs": topic.config(),
            }
            for topic in wanted
            if settings.topic(topic.name) not in here
        }
        for name, options in missing.items():
            try:
                admin.create_topics({name: options})
            except TopicAlreadyExistsError:
                pass  # somebody else was faster
        deadline = time.monotonic() + _TIMEOUT_S
        while not all(_has_leaders(found) for found in _described(admin, missing)):
            if time.monotonic() > deadline:
                raise AdminError(f"new topics have no leader after {_TIMEOUT_S:.0f} s: {', '.join(missing)}")
            time.sleep(0.1)
        return list(missing)


def check_topics(settings: Settings, wanted: Iterable[topics.Topic] = topics.ALL) -> list[str]:
    """What is wrong with the topics, one sentence each; an empty list if nothing is. Raises AdminError."""
    by_name = {settings.topic(topic.name): topic for topic in wanted}
    problems: list[str] = []
    with _admin(settings) as admin:
        here = _describe(admin, list(by_name))
        configs = _configs(admin, list(here)) if here else {}
    for name, topic in by_name.items():
        if name not in here:
            problems.append(f"topic {name} is missing; create it with: ebbtide topics create")
            continue
        count = len(here[name]["partitions"])
        if count != settings.partitions:
            problems.append(
                f"topic {name} has {count} partitions, EBBTIDE_PARTITIONS={settings.partitions};"
                " all topics need the same count"
            )
        config = configs.get(name, {})
        policy = config.get("cleanup.policy", "delete")
        if topic.cleanup_policy == "compact" and policy != "compact":
            problems.append(
                f"topic {name} has cleanup.policy={policy}; it needs compact alone, or state would be deleted"
            )
        if topic.cleanup_policy == "delete" and "compact" in policy:
            problems.append(
                f"topic {name} has cleanup.policy={policy}; it needs delete, or records would be lost"
            )
        limit = config.get("max.message.bytes")
        if topic.max_message_bytes is not None and limit is not None and int(limit) < topic.max_message_bytes:
            problems.append(f"topic {name} has max.message.bytes={limit}, it needs {topic.max_message_bytes}")
    return problems


def end_offsets(settings: Settings, names: Sequence[str]) -> dict[Partition, int]:
    """The offset after the last record of each partition of these topics (names on the broker).

    Taken from fetch responses: ListOffsets of the embedded broker is wrong. Raises AdminError.
    """
    return asyncio.run(_with_consumer(settings, _partitions(settings, names), _ends))


def committed_offsets(settings: Settings, group: str) -> dict[Partition, int]:
    """What a consumer group has committed; empty if it never did. Raises AdminError."""
    with _admin(settings) as admin:
        deadline = time.monotonic() + _TIMEOUT_S
        while True:
            try:
                found = admin.list_group_offsets(group)[group]
                return {(tp.topic, tp.partition): at.offset for tp, at in found.items() if at.offset >= 0}
            except KafkaError as exc:
                # A cluster's first group finds no coordinator until the offsets topic has been made.
                if not exc.retriable or time.monotonic() > deadline:
                    raise
            time.sleep(0.2)


def lag(settings: Settings, group: str, names: Sequence[str]) -> list[Lag]:
    """Where a group (its full name) stands in these topics, by partition. Raises AdminError.

    The ends are read first, so a record that is there when this is called is never missing from the lag.
    """
    ends = end_offsets(settings, names)
    committed = committed_offsets(settings, group)
    return [Lag(*tp, committed.get(tp), end) for tp, end in sorted(ends.items())]


def brokers(settings: Settings) -> list[str]:
    """``host:port`` of each broker of the cluster. Raises AdminError."""
    with _admin(settings) as admin:
        return sorted(f"{broker['host']}:{broker['port']}" for broker in admin.describe_cluster()["brokers"])


def group_members(settings: Settings, group: str) -> int | None:
    """How many consumers the group has now; 0 for one that does not exist. Raises AdminError.

    None where the broker's answer cannot be read: the embedded one sends permissions that nobody knows.
    """
    with _admin(settings) as admin:
        try:
            found = admin.describe_groups([group])[group]
        except GroupIdNotFoundError:
            return 0
        except ValueError:
            return None
    return len(found["members"])


def newest_stamps(settings: Settings, names: Sequence[str]) -> dict[Partition, int]:
    """The time (ms) that the last record of each partition is stamped with; empty ones are left out.

    Raises AdminError.
    """
    return asyncio.run(_with_consumer(settings, _partitions(settings, names), _newest_stamps))


def retention(settings: Settings, names: Sequence[str]) -> dict[str, int | None]:
    """How long (ms) the broker keeps records of each topic; None for ever. Raises AdminError."""
    with _admin(settings) as admin:
        found = _configs(admin, names)
    kept = {name: int(config.get("retention.ms") or -1) for name, config in found.items()}
    return {name: None if ms < 0 else ms for name, ms in kept.items()}


# -- the clients


@contextmanager
def _admin(settings: Settings) -> Iterator[Any]:
    with _explained(settings), closing(KafkaAdminClient(**_kwargs(settings))) as admin:
        yield admin


def _partitions(settings: Settings, names: Sequence[str]) -> list[TopicPartition]:
    with _admin(settings) as admin:
        here = _describe(admin, names)
    for name in names:
        if name not in here:
            raise AdminError(f"topic {name} is missing; create it with: ebbtide topics create")
    return [
        TopicPartition(name, partition["partition_index"])
        for name, topic in here.items()
        for partition in topic["partitions"]
    ]


async def _with_consumer(
    settings: Settings,
    tps: Sequence[TopicPartition],
    ask: Callable[[AIOKafkaConsumer, Sequence[TopicPartition]], Awaitable[dict[Partition, int]]],
) -> dict[Partition, int]:
    """What ``ask`` gives. Not by kafka-python: it hangs on a compression that it has no library for."""
    consumer = AIOKafkaConsumer(
        **aiokafka_kwargs(settings), client_id="ebbtide-admin", group_id=None, fetch_max_wait_ms=50
    )
    try:
        await consumer.start()
        consumer.assign(tps)
        return await ask(consumer, tps)
    except aiokafka.errors.KafkaError as exc:
        said = str(exc) or type(exc).__name__
        raise AdminError(f"Kafka at {settings.kafka} cannot be used: {said}") from exc
    finally:
        await consumer.stop()


def _kwargs(settings: Settings) -> dict[str, Any]:
    return {
        **kafka_python_kwargs(settings),
        "client_id": "ebbtide-admin",
        "bootstrap_timeout_ms": int(_BOOTSTRAP_S * 1000),
    }


@contextmanager
def _explained(settings: Settings) -> Iterator[None]:
    try:
        yield
    except KafkaError as exc:
        said = str(exc) or type(exc).__name__
        raise AdminError(f"Kafka at {settings.kafka} cannot be used: {said}") from exc


def _described(admin: Any, names: Iterable[str]) -> list[Mapping[str, Any]]:
    wanted = list(names)
    return list(admin.describe_topics(wanted)) if wanted else []


def _describe(admin: Any, names: Sequence[str]) -> dict[str, Mapping[str, Any]]:
    return {
        found["name"]: found for found in _described(admin, names) if found["error_code"] != _UNKNOWN_TOPIC
    }


def _has_leaders(topic: Mapping[str, Any]) -> bool:
    partitions = topic["partitions"]
    return bool(partitions) and all(partition["leader_id"] >= 0 for partition in partitions)


def _configs(admin: Any, names: Sequence[str]) -> dict[str, dict[str, str]]:
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    # The embedded broker marks what a topic was given as default: so ask for everything.
    found = admin.describe_configs(resources, config_filter="all")["topic"]
    return {name: {key: entry["value"] for key, entry in config.items()} for name, config in found.items()}


async def _ends(consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition]) -> dict[Partition, int]:
    for tp, offset in (await consumer.end_offsets(tps)).items():
        consumer.seek(tp, offset)
    deadline = time.monotonic() + _TIMEOUT_S
    while any(consumer.highwater(tp) is None for tp in tps):
        if time.monotonic() > deadline:
            raise AdminError(f"the broker did not say within {_TIMEOUT_S:.0f} s where its topics end")
        await consumer.getmany(timeout_ms=50)
    return {(tp.topic, tp.partition): consumer.highwater(tp) for tp in tps}


async def _newest_stamps(consumer: AIOKafkaConsumer, tps: Sequence[TopicPartition]) -> dict[Partition, int]:
    ends = {TopicPartition(*tp): end for tp, end in (await _ends(consumer, tps)).items() if end > 0}
    for tp, end in ends.items():
        consumer.seek(tp, end - 1)
    stamps: dict[Partition, int] = {}
    deadline = time.monotonic() + _STAMPS_S
    while len(stamps) < len(ends) and time.monotonic() < deadline:
        for tp, records in (await consumer.getmany(timeout_ms=200)).items():
            stamps[tp.topic, tp.partition] = records[-1].timestamp
    return stamps
