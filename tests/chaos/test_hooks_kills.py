"""kill -9 of hooks workers while alerts flow: none is lost, and what comes twice has the key it had."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiokafka import AIOKafkaProducer

from schemas import topics
from streams.adapters.kafka.producing import partition_of, send_records
from streams.adapters.kafka.scanning import scan
from streams.settings import Settings
from tests.agents.hooks_play import alert
from tests.chaos.deployment import Servers, deployed, wait_for
from tests.integration.receiver import SECRET, Answer, Arrival, HttpReceiver, served

pytestmark = pytest.mark.chaos

WORKERS = 4
KILLS = 52
A_ROUND = 40


async def slowly(_arrival: Arrival) -> web.StreamResponse:
    await asyncio.sleep(0.02)
    return web.Response(status=204)


def moodily() -> Answer:
    """Each key fails at first, one way or another."""
    seen: set[str] = set()

    async def answer(arrival: Arrival) -> web.StreamResponse:
        if arrival.webhook_id in seen:
            return web.Response(status=204)
        seen.add(arrival.webhook_id)
        busy = web.Response(status=429, headers={"Retry-After": "1"})
        return web.Response(status=500) if len(seen) % 2 else busy

    return answer


def rules(folder: Path, good: HttpReceiver, moody: HttpReceiver) -> Path:
    (folder / "secret").write_text(SECRET)
    told = {
        "endpoints": {
            "good": {"url": good.url, "secret_file": "secret"},
            "moody": {"url": moody.url, "secret_file": "secret", "timeout": "5s"},
        },
        "routes": [{"topic": "alerts", "to": ["good", "moody"]}],
    }
    path = folder / "alerts.yaml"
    path.write_text(json.dumps(told))  # JSON is YAML
    return path


async def send(settings: Settings, facts: list[dict[str, Any]]) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=settings.kafka, acks="all")
    await producer.start()
    try:
        for fact in facts:
            key = fact["shop_id"].encode()
            partition = partition_of(key, settings.partitions)
            await send_records(
                producer, settings.topic(topics.ALERTS.name), partition, [(key, json.dumps(fact).encode())]
            )
    finally:
        await producer.stop()


def test_fifty_kills_of_hooks_workers_lose_no_alert_and_change_no_key(
    servers: Servers, seed: int, folder: Path
) -> None:
    chance = random.Random(f"hooks:{seed}")
    good, moody = HttpReceiver(answer=slowly), HttpReceiver(answer=moodily())
    with (
        served(good, moody),
        deployed(
            servers,
            folder,
            seed,
            alerts_file=str(rules(folder, good, moody)),
            hooks_allow="127.0.0.0/8",
            hooks_insecure=True,
            session_timeout_s=6.0,
        ) as deployment,
    ):
        fleet = deployment.fleet
        fleet.add("hooks", WORKERS)
        wanted: set[str] = set()
        kills = rounds = 0
        while kills < KILLS:
            rounds += 1
            first = rounds * A_ROUND
            facts = [
                alert(first + n, version, shop_id=f"s{chance.randrange(50)}")
                for n in range(A_ROUND // 2)
                for version in (1, 2)
            ]
            wanted |= {f"{fact['alert_id']}-{fact['version']}" for fact in facts}
            before = len(good.arrivals)
            asyncio.run(send(deployment.settings, facts))
            wait_for(lambda n=before: len(good.arrivals) > n, "the first of a round to arrive", 90)
            time.sleep(chance.uniform(0.0, 0.4))
            kills += fleet.kill(fleet.of("hooks"))
        wait_for(
            lambda: not wanted - good.counts().keys() and not wanted - moody.counts().keys(),
            "all of them",
            120,
        )
        # The last answers are written down as well.
        told = ["delivered"] * 2 * len(wanted)
        wait_for(lambda: list(statuses(deployment.settings).values()) == told, "all to be told", 60)
        twice = [sum(count - 1 for count in each.counts().values()) for each in (good, moody)]
        deployment.report(
            f"hooks: {kills} kills in {rounds} rounds, {len(wanted)} revisions of alerts to 2 endpoints:"
            f" none lost, {twice[0]} and {twice[1]} came twice, each with its key;"
            f" {len(fleet.failures)} workers ended by themselves"
        )
        assert fleet.failures == []
    for receiver in (good, moody):
        assert receiver.forged == []
        assert receiver.counts().keys() == wanted
        bodies: dict[str, set[bytes]] = defaultdict(set)
        for arrival in receiver.arrivals:
            bodies[arrival.webhook_id].add(arrival.body)
        assert Counter(map(len, bodies.values())) == {1: len(wanted)}, "a key stands for one message"


def statuses(settings: Settings) -> dict[str, str]:
    """What is told of each delivery, by the highest version."""
    found: dict[str, tuple[int, str]] = {}

    def take(record: Any) -> None:
        fact = json.loads(record.value)
        known = found.get(fact["delivery_id"])
        if known is None or known[0] <= fact["version"]:
            found[fact["delivery_id"]] = fact["version"], fact["status"]

    scan(settings, [settings.topic(topics.DELIVERIES.name)], take)
    return {name: status for name, (_, status) in found.items()}
