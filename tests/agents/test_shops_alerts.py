"""The shops agent tells of what breaks: that customers leave, or that it is the data."""

from __future__ import annotations

import msgspec

from schemas.alerts import AlertFact as Contract
from schemas.alerts import LossWindowFact as WindowContract
from streams.domain.alert_facts import AlertFact
from streams.domain.alert_rules import AlertRules, Watch
from streams.domain.policy import MINUTE
from streams.domain.spike import SpikeRule
from tests.agents.shop_traffic import Traffic
from tests.agents.shop_world import MONDAY, Broker, work

#: Minutes of ordinary traffic before anything happens.
USUAL = 180
SHOPS = {"s1": (12.0, 0.6), "s2": (6.0, 0.6)}


def play(
    minutes: int, orders: bool = True, loss: dict[str, float] | None = None, rules: AlertRules | None = None
) -> tuple[Broker, Traffic]:
    """Ordinary traffic, then so many minutes that are as said."""
    broker = Broker(2)
    traffic = Traffic(broker, SHOPS)
    for number in range(USUAL + minutes):
        now = number >= USUAL
        traffic.minute(number, orders=orders or not now, loss=loss if now else None)
        if number % 20 == 19:
            work(broker, rules)
    work(broker, rules)
    return broker, traffic


def of(alerts: list[AlertFact], kind: str, status: str) -> list[AlertFact]:
    return [each for each in alerts if (each.kind, each.status) == (kind, status)]


def minute_of(alert: AlertFact) -> int:
    return alert.at // MINUTE - MONDAY // MINUTE - USUAL


def test_ordinary_traffic_raises_no_alert() -> None:
    broker, _ = play(120)
    assert broker.alerts() == []
    assert {window.verdict for window in broker.windows().values()} == {"learning", "within"}


def test_a_broken_checkout_is_told_before_its_sessions_close_with_what_it_costs_afterwards() -> None:
    broker, _ = play(60, loss={"s1": 0.98})
    firing = of(broker.alerts(), "loss", "firing")
    first = min((each for each in firing if each.shop_id == "s1"), key=minute_of)
    assert (first.signal, first.scope, first.scope_value) == ("orders_per_cart", "shop", "")
    assert minute_of(first) <= 30
    rate = next(each for each in firing if (each.shop_id, each.signal) == ("s1", "loss_rate"))
    assert rate.lost > 0.7 * rate.sessions > 0, "usual are six of ten"
    assert not [each for each in firing if each.shop_id == "s2"]
    for each in broker.alerts():
        Contract.model_validate_json(msgspec.json.encode(each))
    verdicts = {w.verdict for key, w in broker.windows().items() if key[:2] == ("s1", "shop")}
    assert {"within", "pending", "firing"} <= verdicts


def test_when_the_producer_of_orders_stops_the_pipeline_is_told_of_and_no_loss() -> None:
    broker, traffic = play(90, orders=False)
    alerts = broker.alerts()
    [silent] = of(alerts, "pipeline", "firing")
    assert (silent.signal, silent.scope_value) == ("silent_topic", "orders")
    assert minute_of(silent) <= 10
    assert of(alerts, "loss", "firing") == []
    held = of(alerts, "loss", "held")
    assert held, "what is held back is said"
    assert {each.held_by for each in held} == {("silent_topic",)}
    assert all("held back: silent_topic" in each.summary for each in held)
    # It comes back: nobody is told of what the silence has left behind.
    for number in range(USUAL + 90, USUAL + 260):
        traffic.minute(number)
        if number % 20 == 19:
            work(broker)
    after = broker.alerts()
    assert [each.signal for each in of(after, "pipeline", "resolved")] == ["silent_topic"]
    assert of(after, "loss", "firing") == []
    assert {each.alert_id for each in of(after, "loss", "held")} == {
        each.alert_id for each in of(after, "loss", "resolved")
    }


def test_a_shop_that_no_watch_covers_is_counted_and_not_judged() -> None:
    rules = AlertRules(watches=(Watch(("s2",), SpikeRule()),))
    broker, _ = play(60, loss={"s1": 0.98}, rules=rules)
    assert not [each for each in broker.alerts() if each.shop_id == "s1"]
    verdicts = {w.verdict for key, w in broker.windows().items() if key[0] == "s1"}
    assert verdicts == {"learning"}


def test_an_alert_is_over_when_its_cause_is() -> None:
    broker, traffic = play(60, loss={"s1": 0.98})
    for number in range(USUAL + 60, USUAL + 220):
        traffic.minute(number)
        if number % 20 == 19:
            work(broker)
    told = {each.alert_id for each in of(broker.alerts(), "loss", "firing") if each.shop_id == "s1"}
    over = {each.alert_id: each for each in of(broker.alerts(), "loss", "resolved")}
    assert told <= over.keys()
    assert all(each.resolved_at == each.at and each.began_at < each.at for each in over.values())


def test_what_is_told_is_as_the_contract_has_it() -> None:
    broker, _ = play(30, orders=False)
    for window in broker.windows().values():
        WindowContract.model_validate_json(msgspec.json.encode(window))
    for alert in broker.alerts():
        Contract.model_validate_json(msgspec.json.encode(alert))
