"""``verify`` finds what is wrong with sessions and counts: each way to err, done on purpose to a store."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date
from typing import Any, Final

import msgspec
import pytest
from clickhouse_connect.driver.client import Client

from streams.adapters.buyer_rows import customer_rows
from streams.adapters.clickhouse import Store, StoreError, connect, migrate
from streams.adapters.rows import event_rows, ingest_rows, session_rows
from streams.adapters.verify import VerifyReport, verify
from streams.domain.checkup import evaluate
from streams.domain.facts import SessionFact, session_id, tombstone
from streams.domain.outlook import DEFAULT_MODEL
from streams.domain.policy import HOUR, MINUTE, Policy
from streams.domain.session import Session
from streams.settings import Settings
from tests.builders import NOON, cart, record, visit

#: What rests on sessions is judged elsewhere.
POLICY: Final = Policy(losses=False)
SETTINGS: Final = Settings()
CUSTOMERS: Final = 30
NONE: Final = {"applied": 0, "duplicate": 0, "late": 0, "rejected": 0}
#: Two partitions; the second has read less far.
WATERMARKS: Final = (NOON + HOUR, NOON + 20 * MINUTE)


class Shop:
    """A store whose every customer bounced once, at NOON, and whose counts agree.

    The sessions of the first partition have closed, so their customers have profiles.
    """

    def __init__(self, url: str, store: Store, client: Client) -> None:
        self.url, self._store, self.client = url, store, client
        for partition in range(2):
            records = [
                record("visits", visit(customer_id=name), offset=n, partition=partition)
                for n, name in enumerate(customers(partition))
            ]
            store.insert("events", event_rows(records, SETTINGS))
            self.publish(partition, *(bounce(name) for name in customers(partition)))
            self.count(partition, received=len(records), applied=len(records))
        told = [record("customers", msgspec.json.encode(prospect(name)), key=b"c") for name in customers(0)]
        store.insert("customers", customer_rows(told, SETTINGS))

    def publish(self, partition: int, *facts: SessionFact) -> None:
        """Store sessions as if they had come from the topic's partition."""
        records = [record("sessions", msgspec.json.encode(f), partition=partition, key=b"c") for f in facts]
        self._store.insert("sessions", session_rows(records, SETTINGS))

    def count(self, partition: int, **counts: int) -> None:
        """State what became of a partition's visits."""
        # Of two statements with one `next_offset`, the version, the later one counts.
        fact = {
            "topic": "visits",
            "partition": partition,
            "next_offset": counts["received"],
            **NONE,
            **counts,
        }
        told = record("ingest", {**fact, "watermark": WATERMARKS[partition]})
        self._store.insert("ingest", ingest_rows([told], SETTINGS))

    def verify(self, **more: Any) -> VerifyReport:
        """Of sessions alone, which is what these tests err in, unless more is asked for."""
        return verify(self.client, POLICY, **{"tables": ["sessions"], **more})


def customers(partition: int) -> list[str]:
    return [f"p{partition}-{n}" for n in range(CUSTOMERS)]


def prospect(customer: str) -> Any:
    """The profile of one visit at NOON."""
    seen = [Session(NOON, NOON, 1, 1)]
    (fact,) = evaluate(customer, "s1", None, (), seen, DEFAULT_MODEL, WATERMARKS[0], POLICY).facts
    return fact


def bounce(customer: str, **changes: Any) -> SessionFact:
    """The fact of one visit at NOON."""
    fact = msgspec.structs.replace(
        tombstone(customer, "s1", NOON, 1),
        lost_stage="bounced",
        events=1,
        visits=1,
        day=date(2026, 3, 2),
        is_deleted=False,
    )
    return msgspec.structs.replace(fact, **changes)


@pytest.fixture
def shop(database: str) -> Iterator[Shop]:
    migrate(database)
    with closing(Store(database)) as store, closing(connect(database)) as client:
        yield Shop(database, store, client)


def test_a_true_store_is_exact_and_only_closed_sessions_are_judged(shop: Shop) -> None:
    report = shop.verify(tables=None)
    assert report.exact
    assert list(report.tables) == ["sessions", "customers", "transitions", "segments"]
    assert (report.tables["sessions"].rows, report.tables["sessions"].open) == (CUSTOMERS, CUSTOMERS)
    assert report.tables["customers"].rows == CUSTOMERS
    assert report.conservation == {
        "received": 2 * CUSTOMERS,
        "applied": 2 * CUSTOMERS,
        "duplicate": 0,
        "late": 0,
        "rejected": 0,
    }


def test_a_watermark_that_is_given_goes_before_the_stored_ones(shop: Shop) -> None:
    assert shop.verify(watermark=NOON + HOUR).tables["sessions"].rows == 2 * CUSTOMERS
    assert shop.verify(watermark=NOON + 30 * MINUTE).tables["sessions"].rows == 0


def test_each_wrong_column_is_found_and_named(shop: Shop) -> None:
    shop.publish(0, bounce("p0-3", version=2, lost_stage="browsed", channel="ads", cart_value="1.0000"))
    report = shop.verify()
    assert (report.missing, report.extra, report.different) == (0, 0, 1)
    (sample,) = report.samples
    assert str(sample) == (
        f"different session of p0-3 in s1 from {NOON}: lost_stage must be bounced and is browsed;"
        " cart_value must be 0 and is 1; channel must be null and is ads; version must be 1 and is 2"
    )


def test_a_session_under_another_id_is_different(shop: Shop) -> None:
    wrong = session_id("p0-3", "s1", NOON + 1)
    shop.publish(0, bounce("p0-3", session_id=wrong))
    (sample,) = shop.verify().samples
    assert sample.differences == (("session_id", session_id("p0-3", "s1", NOON), wrong),)


def test_a_session_in_the_wrong_partition_is_different(shop: Shop) -> None:
    shop.publish(1, bounce("p0-3", version=2))
    report = shop.verify(watermark=NOON + HOUR)
    assert [column for column, _, _ in report.samples[0].differences] == ["version", "partition"]


def test_a_session_taken_back_is_missing(shop: Shop) -> None:
    shop.publish(0, tombstone("p0-3", "s1", NOON, 2))
    report = shop.verify()
    assert (report.missing, report.extra, report.different) == (1, 0, 0)


def test_a_session_of_nobody_is_extra(shop: Shop) -> None:
    shop.publish(0, bounce("nobody"))
    report = shop.verify()
    assert (report.missing, report.extra, report.different) == (0, 1, 0)


def test_a_fact_sent_twice_is_one(shop: Shop) -> None:
    shop.publish(0, *(bounce(name) for name in customers(0)))
    assert shop.verify().exact


def test_records_without_a_fate_are_a_leak(shop: Shop) -> None:
    shop.count(0, received=CUSTOMERS + 2, applied=CUSTOMERS)
    assert shop.verify().leaks == (f"visits[0]: 2 of {CUSTOMERS + 2} records have no fate",)


@pytest.mark.parametrize("fate", ["late", "rejected"])
def test_a_fate_that_left_no_row_is_a_leak(shop: Shop, fate: str) -> None:
    shop.count(0, **{"received": CUSTOMERS + 1, "applied": CUSTOMERS, fate: 1})
    assert shop.verify().leaks == (f"visits[0]: 1 records were {fate}, 0 are stored",)


def test_an_event_that_was_never_applied_is_a_leak(shop: Shop) -> None:
    shop.count(0, received=CUSTOMERS, applied=CUSTOMERS - 1, duplicate=1)
    assert shop.verify().leaks == (
        f"visits[0]: {CUSTOMERS - 1} records were applied, {CUSTOMERS} are stored",
    )


def test_the_brokers_counts_are_compared(shop: Shop) -> None:
    counts = {("visits", 0): CUSTOMERS, ("visits", 1): CUSTOMERS + 1, ("carts", 0): 0}
    leaks = shop.verify(broker_counts=counts).leaks
    assert leaks == (f"visits[1]: {CUSTOMERS} records of {CUSTOMERS + 1} were received",)


def test_an_event_too_late_for_the_verdict_is_in_the_balance(shop: Shop) -> None:
    late = record("carts", cart(customer_id="p0-3"), offset=4)
    with closing(Store(shop.url)) as store:
        store.insert("events", event_rows([late], SETTINGS))
    shop.client.insert("late_events", [["carts", 0, 4]], column_names=["topic", "partition", "offset"])
    shop.client.insert(
        "ingest",
        [["carts", 0, 5, 1, 1]],
        column_names=["topic", "partition", "next_offset", "received", "late"],
    )
    assert shop.verify().exact


def test_without_raw_events_there_is_nothing_to_verify_against(shop: Shop) -> None:
    shop.client.command("TRUNCATE TABLE events")
    with pytest.raises(StoreError, match="EBBTIDE_STORE_EVENTS=1"):
        shop.verify()
