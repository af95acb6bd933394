"""The page's questions over five million sessions: how long each panel waits for its answer.

    python -m tests.benchmarks.page
    python -m tests.benchmarks.page --sessions 500000 --runs 5

The embedded ClickHouse is filled with made-up facts in the proportions of a marketplace of 200 shops over 90
days: nobody's sessions, but as many, as wide and as spread as theirs. History lies merged, as it does a few
minutes after it came; on top of it is a part that has just come, with revisions of older rows. Each panel's
question is asked as the page asks it, for all shops and for the busiest one, over 7 days.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

from clickhouse_connect.driver.client import Client

from streams.adapters.clickhouse import connect, migrate
from streams.dashboard.asking import Asker, page_question
from streams.dashboard.pages import PAGES
from streams.dashboard.selection import Selection, View
from streams.embedded.clickhouse import ClickHouse
from tests.benchmarks import machine

DAYS: Final = 90
SHOPS: Final = 200
#: 2026-03-01 00:00 UTC.
END_S: Final = 1_772_323_200
TARGET_MS: Final = 200.0
SCOPES: Final = {"all shops": "", "one shop": "shop-0"}
#: Panels that are not asked of all shops: their page wants one, or the link that leads there names it.
OF_ONE: Final = frozenset(
    {
        "products: product_matrix",
        "items: item_days",
        "items: leak_flows",
        "buyers: customer_profile",
        "buyers: customer_evidence",
        "buyers: customer_sessions",
    }
)

#: By table: rows for each session, and what a row is, of its number n. rnd(k) are numbers that follow from n.
_MADE: Final[dict[str, tuple[float, str]]] = {
    "sessions": (
        1.0,
        """
        lower(hex(sipHash128(n))) AS session_id, {shop} AS shop_id, {customer} AS customer_id,
        {at} AS started_at, started_at + toIntervalSecond(10 + {rnd3} % 900) AS ended_at,
        if({rnd4} % 100 < 20, 'converted', 'lost') AS outcome,
        if(outcome = 'converted', NULL, ['bounced', 'browsed', 'favorited',
        'carted'][1 + {rnd5} % 4]) AS lost_stage,
        1 + {rnd3} % 12 AS events, 1 + {rnd3} % 9 AS visits, 0 AS favorites, 1 AS carts,
        toDecimal128(if(lost_stage = 'carted', {rnd3} % 50000 / 100, 0), 4) AS cart_value,
        'CNY' AS currency, false AS mixed_currency, if(outcome = 'converted', 1, 0) AS orders,
        toDecimal128(if(orders > 0, {rnd3} % 90000 / 100, 0), 4) AS revenue, {rnd4} % 17 = 0 AS recovered,
        NULL AS recovered_at, NULL AS recovered_by, concat('i', toString({rnd5} % 3000)) AS landing_item,
        ['search', 'ads', 'direct', 'mail'][1 + {rnd4} % 4] AS channel, NULL AS campaign,
        {rnd3} % 50 = 0 AS is_bot,
        1 AS version, 0 AS is_deleted, n % 6 AS partition, toDate32(started_at) AS day, NULL AS bot_by""",
    ),
    "customers": (
        0.3,
        """
        {shop} AS shop_id, concat('c', toString(n)) AS customer_id, toDate32('2026-03-01') AS as_of,
        ['prospect', 'prospect', 'new', 'active', 'lapsing', 'lapsed', 'won_back'][1 + {rnd3} % 7] AS stage,
        {at} AS stage_since, if(stage = 'prospect', NULL, 'loyal') AS tier, 1 + {rnd3} % 5 AS r_score,
        1 + {rnd4} % 5 AS f_score, 1 + {rnd5} % 5 AS m_score, ({rnd3} % 100) / 100 AS p_alive,
        ({rnd4} % 100) / 100 AS p_return_90d, 1.5 AS expected_orders_90d,
        toDate32('2026-03-01') - ({rnd3} % 60) AS next_order_on, {rnd3} % 60 AS overdue_days,
        12.5 AS usual_gap_days,
        {at} AS first_order_at, {at} AS last_order_at, toDate32({at}) AS first_order_on,
        toDate32({at}) AS last_order_on, if(stage = 'prospect', 0, 1 + {rnd4} % 9) AS purchase_days,
        purchase_days AS orders, 0 AS reversed_orders, 3 AS recency_days,
        toDecimal128({rnd5} % 900000 / 100, 4) AS monetary, toDecimal128(50, 4) AS average_order_value,
        'CNY' AS currency, false AS mixed_currency, ['tea', 'toys'] AS preferred_categories,
        3 AS price_band,
        0.25 AS discount_affinity, 3 AS visits_30d, 0 AS favorites_30d, 1 AS carts_30d, 7 AS visits_90d,
        1 AS favorites_90d, 2 AS carts_90d, {at} AS last_seen_at, 1 AS model_version, 1 AS version,
        0 AS is_deleted,
        n % 6 AS partition""",
    ),
    "transitions": (
        0.2,
        """
        lower(hex(sipHash128(n))) AS transition_id, 'stage' AS kind, {shop} AS shop_id,
        {customer} AS customer_id,
        {at} AS anchor, {at} AS at, ['prospect', 'new', 'active'][1 + {rnd3} % 3] AS from_state,
        ['new', 'active', 'lapsing'][1 + {rnd3} % 3] AS to_state, ['order', 'order',
        'overdue'][1 + {rnd3} % 3] AS cause,
        0.5 AS p_alive, 0.5 AS p_return_90d, 3 AS overdue_days, 12.5 AS usual_gap_days, 1 AS model_version,
        1 AS version, 0 AS is_deleted, n % 6 AS partition""",
    ),
    "item_days": (
        1.5,
        """
        {shop} AS shop_id, toDate32({at}) AS day, concat('i', toString({rnd5} % 3000)) AS item_id,
        {customer} AS customer_id, ['tea', 'toys', 'bags', 'books'][1 + {rnd5} % 4] AS category,
        ['nothing', 'nothing', 'nothing', 'bought_elsewhere', 'bought_item', 'bought_similar',
        'bought_other']
            [1 + {rnd3} % 7] AS disposition, {at} AS first_at, 1 + {rnd4} % 3 AS visits,
        {rnd3} % 9 = 0 AS favorited,
        {rnd4} % 9 = 0 AS carted, {rnd3} % 50 = 0 AS is_bot, 1 AS version, 0 AS is_deleted,
        n % 6 AS partition""",
    ),
    "leaks": (
        0.05,
        """
        lower(hex(sipHash128(n))) AS leak_id, {shop} AS shop_id, {customer} AS customer_id,
        toDate32({at}) AS day,
        {at} AS seen_at, [concat('i', toString({rnd5} % 3000))] AS item_ids,
        [['tea', 'toys', 'bags', 'books'][1 + {rnd5} % 4]] AS categories,
        ['cart', 'favorite', NULL][1 + {rnd4} % 3] AS intent, concat('shop-',
        toString({rnd3} % {shops})) AS to_shop_id,
        toString(n) AS order_id, {at} AS ordered_at, [concat('i', toString({rnd3} % 3000))] AS to_item_ids,
        1 AS pieces, toDecimal128({rnd4} % 50000 / 100, 4) AS amount, 'CNY' AS currency, NULL AS price_here,
        NULL AS price_there, false AS is_bot, 1 AS version, 0 AS is_deleted, n % 6 AS partition""",
    ),
    "reasons": (
        0.8,
        """
        lower(hex(sipHash128(n))) AS reason_id, if({rnd3} % 20 = 0, 'lapse', 'session') AS kind,
        lower(hex(sipHash128(n + 1))) AS subject_id, {shop} AS shop_id, {customer} AS customer_id,
        {at} AS at,
        toDate32({at}) AS day, 'tea' AS category,
        ['natural', 'natural', 'unknown', 'price', 'competition', 'forgot',
        'variety'][1 + {rnd4} % 7] AS reason,
        0.6 AS score, map(reason, 0.6) AS scores,
        if(reason IN ('price', 'competition', 'variety'),
            map('to_shop', concat('shop-', toString({rnd3} % {shops})), 'order', toString(n), 'category',
        'tea'),
            map('events', '3')) AS evidence,
        false AS is_bot, 1 AS version, 0 AS is_deleted, n % 6 AS partition""",
    ),
    "purchases": (
        0.2,
        """
        {shop} AS shop_id, {customer} AS customer_id, toString(n) AS order_id, {at} AS ordered_at,
        toDate32({at}) AS day, toDecimal128({rnd3} % 90000 / 100, 4) AS total, toDecimal128(0,
        4) AS refunded,
        false AS is_reversed, 'CNY' AS currency,
        [(concat('i', toString({rnd5} % 3000)), 'tea', 1, total, toDecimal128(0, 4), total)] AS lines,
        1 AS version, 0 AS is_deleted, n % 6 AS partition""",
    ),
    "segments": (
        0.3,
        """
        ['cart-abandoners', 'sleeping-vips', 'fans', 'loyal'][1 + n % 4] AS segment, {shop} AS shop_id,
        concat('c', toString(n)) AS customer_id, {rnd3} % 3 > 0 AS is_member, {at} AS at,
        ['event', 'time'][1 + {rnd4} % 2] AS cause, 1 AS rules_version, 1 AS version, 0 AS is_deleted,
        n % 6 AS partition""",
    ),
    "loss_windows": (
        2.0,
        """
        if({rnd3} % 10 = 0, '', {shop}) AS shop_id, if({rnd4} % 5 = 0, 'shop', 'stage') AS scope,
        if(scope = 'shop', '', ['bounced', 'browsed', 'favorited',
        'carted'][1 + {rnd4} % 4]) AS scope_value,
        toStartOfMinute({at}) AS minute, 5 + {rnd5} % 20 AS closed, 4 + {rnd5} % 15 AS lost, 0 AS bots,
        map('CNY', toDecimal128(100, 4)) AS value_at_risk, 3 AS active_carts, 1 AS orders, 0.8 AS observed,
        0.8 AS expected, 0.95 AS band, 4.5 AS expected_lost, 0.3 AS orders_per_cart,
        0.3 AS expected_orders_per_cart, 0.1 AS band_orders_per_cart, 'within' AS verdict, 1 AS version,
        0 AS is_deleted, 0 AS partition""",
    ),
}
#: Busy shops are few: the square of an even number between 0 and 1 picks one.
_SHOP: Final = (
    "concat('shop-', toString(toUInt32(floor({shops} * pow((sipHash64(n, 1) % 1000000) / 1000000, 2)))))"
)
_AT: Final = "toDateTime64({end} - (sipHash64(n, 2) % ({days} * 86400)), 3, 'UTC')"


def made(table: str, since: int, count: int, sessions: int, version: int) -> str:
    """The statement that puts ``count`` rows into ``table``, from number ``since`` on."""
    _, row = _MADE[table]
    parts = {
        "shop": _SHOP.format(shops=SHOPS),
        "at": _AT.format(end=END_S, days=DAYS),
        "customer": f"concat('c', toString(sipHash64(n, 6) % {max(1, sessions // 4)}))",
        "shops": str(SHOPS),
        **{f"rnd{seed}": f"sipHash64(n, {seed})" for seed in (3, 4, 5)},
    }
    for name, text in parts.items():
        row = row.replace(f"{{{name}}}", text)
    row = row.replace("1 AS version", f"{version} AS version")
    columns = ", ".join(part.rsplit(" AS ", 1)[1].strip() for part in _columns(row))
    return (
        f"INSERT INTO {table} ({columns}) SELECT {columns} FROM"
        f" (SELECT number AS n, {row} FROM numbers_mt({since}, {count}))"
    )


def _columns(row: str) -> Iterator[str]:
    depth, start, quoted = 0, 0, False
    for index, char in enumerate(row):
        quoted ^= char == "'"
        if quoted:
            continue
        depth += (char in "([") - (char in ")]")
        if char == "," and depth == 0:
            yield row[start:index]
            start = index + 1
    yield row[start:]


def fill(client: Client, sessions: int) -> None:
    """History, merged; and on top of it a hundredth of it again, as revisions and as new rows."""
    step = 1_000_000
    for table, (share, _) in _MADE.items():
        total = int(sessions * share)
        for since in range(0, total, step):
            client.command(made(table, since, min(step, total - since), sessions, 1))
        client.command(f"OPTIMIZE TABLE {table} FINAL")
        recent = max(1, total // 100)
        client.command(made(table, total - recent // 2, recent, sessions, 2))
    client.command(
        "INSERT INTO ingest SELECT ['visits', 'carts', 'favorites', 'orders'][1 + number % 4], number % 6,"
        f" 1000000, 1000000, 990000, 5000, 3000, 2000, toDateTime64({END_S}, 3, 'UTC') FROM numbers(24)"
    )


def questions() -> dict[str, tuple[str, dict[str, str]]]:
    """(question, parameters beside the view's) of each panel."""
    found: dict[str, tuple[str, dict[str, str]]] = {
        "reached": ("reached", {}),
        "shops": ("shops", {}),
    }
    for page, panels in PAGES.items():
        for panel in panels:
            found[f"{page}: {panel.title}"] = (panel.asks, dict(panel.given))
    return found


def measure(url: str, runs: int) -> dict[str, dict[str, float]]:
    """Milliseconds by panel: the median of ``runs`` for all shops, and for the busiest shop."""
    asker = Asker(url)
    times: dict[str, dict[str, float]] = {}
    for name, (asks, given) in questions().items():
        row: dict[str, float] = {}
        for scope, shop in SCOPES.items():
            if scope == "all shops" and name in OF_ONE:
                continue
            chosen = Selection("en", "loss", shop=shop, item="i7", customer="c7", segment="fans")
            parameters = View(chosen, END_S * 1000, "UTC").parameters() | given
            question = page_question(asks)
            values = {parameter: parameters[parameter] for parameter in question.parameters}
            taken = []
            for _ in range(runs):
                answer = asker.ask_now(question, values)
                assert not answer.wrong, (name, answer.wrong)
                taken.append(answer.elapsed_ms)
            row[scope] = statistics.median(taken)
        times[name] = row
        told = "  ".join(f"{scope} {row[scope]:7.1f} ms" for scope in SCOPES if scope in row)
        print(f"{name:32} {told}{'  over the target' if max(row.values()) > TARGET_MS else ''}", flush=True)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sessions", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--keep", type=Path, help="Fill this directory once, and ask it again later.")
    options = parser.parse_args()
    about = machine.describe(("chdb", "clickhouse-connect"))
    print(", ".join(f"{name} {value}" for name, value in about.items()))
    with tempfile.TemporaryDirectory() as folder:
        data = options.keep or Path(folder)
        is_new = not (data / "clickhouse").is_dir()
        data.mkdir(parents=True, exist_ok=True)
        with ClickHouse(data / "clickhouse", Path(folder)) as database:
            if is_new:
                migrate(database.url)
                started = time.monotonic()
                with closing(connect(database.url, timeout_s=600)) as client:
                    fill(client, options.sessions)
                took = time.monotonic() - started
                print(f"{options.sessions:,} sessions and what goes with them: {took:.0f} s")
            times = measure(database.url, options.runs)
    over = [name for name, row in times.items() if max(row.values()) > TARGET_MS]
    print(f"{len(times)} panels; over {TARGET_MS:.0f} ms: {', '.join(over) or 'none'}")


if __name__ == "__main__":
    main()
