"""What agents tell when they are asked agrees with what they have told of themselves to everybody."""

from __future__ import annotations

from collections import Counter

from streams.adapters.telemetry import GAUGES
from streams.agents.gauges import of_hooks, of_shops
from streams.agents.shops import Shops
from streams.domain.alert_rules import AlertRules
from streams.domain.deliveries import Answer
from streams.settings import Settings
from tests.agents.hooks_play import DOWN, HOUR, NOON, OK, Receiver, World, alert, asked, records
from tests.agents.hooks_play import play as play_hooks
from tests.agents.shop_world import Broker, States
from tests.agents.test_shops_alerts import play


def open_alerts(broker: Broker) -> dict[tuple[str, ...], float]:
    """What a worker that takes over now tells, by kind and status."""
    settings = Settings(partitions=broker.partitions, ticks="off")
    worker = Shops(settings, AlertRules(), States(broker), broker.send, lambda *_: True)
    for partition in range(broker.partitions):
        worker.assign(partition)
    samples = [sample for sample in of_shops(worker.held) if sample.name == "ebbtide_alerts_open"]
    return {sample.labels: sample.value for sample in samples}


def told(broker: Broker) -> Counter[tuple[str, str]]:
    """The alerts whose last revision says that they stand."""
    last = {each.alert_id: each for each in broker.alerts()}
    return Counter((each.kind, each.status) for each in last.values() if each.status != "resolved")


def test_alerts_that_stand_are_counted_as_they_were_told() -> None:
    leaving, _ = play(60, loss={"s1": 0.98})
    assert open_alerts(leaving) == {("pipeline", "firing"): 0, ("loss", "held"): 0, **told(leaving)}
    assert open_alerts(leaving)["loss", "firing"] > 0
    silent, _ = play(35, orders=False)
    assert open_alerts(silent) == {("loss", "firing"): 0, **told(silent)}
    assert open_alerts(silent)["pipeline", "firing"] == 1
    assert open_alerts(silent)["loss", "held"] > 0


def hooks_of(world: World) -> dict[tuple[str, str], float]:
    samples = list(of_hooks(world.hooks))
    assert all(len(labels) == len(GAUGES[name][1]) for name, _, labels in samples)
    return {(name.removeprefix("ebbtide_hooks_"), *labels): value for name, value, labels in samples}


def test_an_endpoint_that_is_gone_is_told_as_disabled_until_it_is_enabled() -> None:
    seen: list[dict[tuple[str, str], float]] = []

    async def story(world: World) -> None:
        seen.append(hooks_of(world))
        await world.take(("alerts", records([alert(1)])))
        await world.rest()
        seen.append(hooks_of(world))
        await world.take(("hook-requests", [asked(0, "enable", world.now + 1, endpoint="a")]))
        seen.append(hooks_of(world))

    play_hooks(story, a=Receiver(answer=lambda *_: Answer(410, "answered 410")), b=Receiver())
    assert [each["disabled", "a"] for each in seen] == [0, 1, 0]
    assert [each["disabled", "b"] for each in seen] == [0, 0, 0]


def test_deliveries_that_wait_are_told_by_endpoint() -> None:
    seen: list[dict[tuple[str, str], float]] = []

    async def story(world: World) -> None:
        await world.take(("alerts", records([alert(1), alert(2)])))
        await world.until(NOON + HOUR)
        seen.append(hooks_of(world))

    play_hooks(story, a=Receiver(answer=lambda *_: DOWN), b=Receiver(answer=lambda *_: OK))
    assert (seen[0]["waiting", "a"], seen[0]["waiting", "b"]) == (2, 0)
