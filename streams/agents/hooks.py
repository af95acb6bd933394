"""The hooks agent: who is told of alerts, and of what else alerts.yaml routes, over HTTP.

What a batch and an attempt do is in ``hook_loop``; here it is bound to the worker: the topics, the table, a
courier for each endpoint, and the wall clock.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any, Final

from schemas import topics
from schemas.alerts import AlertFact
from streams.adapters.alert_rules import AlertRulesError, load_rules
from streams.adapters.hook_facts import Told
from streams.adapters.hook_post import now_ms, post_to, problems
from streams.adapters.kafka.lanes import Lanes
from streams.adapters.kafka.producing import send_records
from streams.adapters.kafka.table import StateTable
from streams.adapters.kafka.worker import WorkerApp
from streams.adapters.webhook_guard import Guard
from streams.agents.gauges import of_hooks
from streams.agents.hook_loop import READ, Hooks, Outgoing
from streams.domain.alert_rules import AlertRules
from streams.domain.hook_state import is_stale
from streams.settings import Settings, SettingsError

log = logging.getLogger(__name__)

#: How often it is looked whether quiet hours have ended, and what may be forgotten.
_TEND_S: Final = 0.5


class Routing:
    """What alerts.yaml says, as the loop asks it; zone: of shops that nothing is published of."""

    def __init__(self, rules: AlertRules, zone: str) -> None:
        self._rules = rules
        self._zone = zone

    def reads(self, topic: str) -> bool:
        return self._rules.reads(topic)

    def endpoints_for(self, told: Told) -> Sequence[str]:
        return self._rules.endpoints_for(told.topic, told.fact)

    def quiet_until(self, alert: AlertFact, zone: str | None, now: int) -> int | None:
        return self._rules.quiet_until(alert.shop_id, zone or self._zone, now)


def register(app: WorkerApp, settings: Settings) -> Hooks:
    """Make the agent and its table in ``app``. Raises SettingsError if alerts.yaml cannot be used."""
    try:
        rules = load_rules(settings)
    except AlertRulesError as exc:
        raise SettingsError(str(exc)) from exc
    guard = Guard.of(settings)
    posts = {name: post_to(endpoint, guard, now_ms) for name, endpoint in rules.endpoints.items()}
    for endpoint in rules.endpoints.values():
        # The others are told all the same; what is for this one waits, and says why.
        for problem in problems(endpoint, guard):
            log.warning("endpoint %s: %s", endpoint.name, problem)
    names = {settings.topic(topic.name): topic.name for topic in READ}

    async def send(topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        await send_records(app.producer.raw, settings.topic(topic), partition, records)

    def assigned(partitions: Iterable[int]) -> None:
        for partition in partitions:
            hooks.assign(partition)

    def revoked(partitions: Iterable[int]) -> None:
        for partition in partitions:
            hooks.revoke(partition)

    rows = StateTable(
        app,
        name=topics.HOOKS_CHANGELOG.name,
        changelog=settings.topic(topics.HOOKS_CHANGELOG.name),
        is_stale=is_stale,
        on_assigned=assigned,
        on_revoked=revoked,
    )
    routing = Routing(rules, settings.policy.zone)
    hooks = Hooks(routing, posts, rows, send, now_ms, app.crash, settings.partitions)
    app.tells.append(lambda: of_hooks(hooks))

    async def work(number: int, events: Sequence[Any]) -> None:
        await hooks.handle(number, [(names[event.message.topic], event.value) for event in events])
        for event in events:
            event.ack()

    async def tend() -> None:
        try:
            while True:
                await asyncio.sleep(_TEND_S)
                await hooks.tend()
        except Exception as exc:
            await app.crash(exc)

    async def run(courier: Any) -> None:
        try:
            await courier.run()
        except Exception as exc:
            await app.crash(exc)

    @app.agent(app.bundles(*names), name="hooks", concurrency=1)
    async def take(stream: Any) -> None:
        tasks = [asyncio.create_task(run(courier)) for courier in hooks.couriers.values()]
        tasks.append(asyncio.create_task(tend()))
        try:
            async with Lanes(work, app.crash, settings.batch_records) as lanes:
                async for event in stream.noack().events():
                    await lanes.put(event.message.partition, event, len(event.value))
        finally:
            for task in tasks:
                task.cancel()
            for post in posts.values():
                await post.close()

    return hooks
