"""What is on each page: which questions are asked, and how their rows are shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from streams.dashboard import charts
from streams.dashboard.parts import Make, chart, figures, folded, marked, table
from streams.dashboard.selection import Selection


def _always(_: Selection) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Panel:
    """One question and how its answer is shown.

    title: a name of words; asks: a question's name; given: parameters beside those of the view; when:
    whether it is on the page; note: words below the title; empty: words in place of the usual ones where
    there is no row; marks: a second question, and its parameters, whose rows are pointed out on the first's.
    """

    title: str
    asks: str
    parts: tuple[Make, ...]
    given: Mapping[str, str] = field(default_factory=dict)
    when: Callable[[Selection], bool] = _always
    note: str = ""
    empty: str = "empty"
    marks: tuple[str, Mapping[str, str]] | None = None


def _closer(name: str) -> Callable[[Selection], bool]:
    return lambda chosen: bool(getattr(chosen, name))


_ITEM = _closer("item")
_CUSTOMER = _closer("customer")
_SEGMENT = _closer("segment")

_CURVE = Panel(
    "curve",
    "curve",
    (
        marked(charts.curve, 300),
        folded("at closed lost loss_rate expected band out"),
    ),
    empty="no windows",
    marks=("alerts", {"kind": "loss"}),
)

PAGES: Final[dict[str, tuple[Panel, ...]]] = {
    "loss": (
        Panel(
            "figures",
            "figures",
            (
                figures(
                    "loss_rate sessions lost bounced browsed favorited carted recovered value_at_risk revenue"
                ),
            ),
        ),
        _CURVE,
        Panel(
            "loss alerts",
            "alerts",
            (
                table(
                    "status severity shop_id signal scope_value began_at resolved_at "
                    "observed expected value_at_risk drivers",
                    shop_id=lambda row: {"shop": row["shop_id"]},
                ),
            ),
            given={"kind": "loss"},
        ),
        Panel(
            "stages",
            "stages",
            (chart(charts.stages, 240), folded("at bounced browsed favorited carted")),
            empty="no windows",
        ),
    ),
    "where": (
        Panel(
            "flows",
            "flows",
            (
                chart(
                    lambda rows, words: charts.sankey(
                        rows, ("shop_id", "category", "to_shop_id"), "orders", words
                    ),
                    420,
                ),
                folded("shop_id category to_shop_id buyers orders"),
            ),
            note="operator",
        ),
        Panel(
            "destinations",
            "destinations",
            (
                table(
                    "to_shop_id buyers orders after_cart after_favorite amount",
                    to_shop_id=lambda row: {"shop": row["to_shop_id"]},
                ),
            ),
            note="operator",
        ),
        Panel(
            "reasons",
            "reasons",
            (
                chart(lambda rows, words: charts.bars(rows, ("kind", "own_reason"), "losses", words), 300),
                table("kind own_reason losses share score"),
            ),
        ),
    ),
    "items": (
        Panel(
            "item_days",
            "item_loss",
            (
                chart(lambda rows, words: charts.item_buckets(rows, "day", words), 260),
                table(
                    "day shop_id visitors bought_item bought_similar bought_other "
                    "bought_elsewhere nothing lost_after_favorite lost_after_cart "
                    "loss_rate"
                ),
            ),
            given={"by_day": "true"},
            when=_ITEM,
        ),
        Panel(
            "leak_flows",
            "leak_flows",
            (table("to_shop_id to_item_id buyers orders after_cart after_favorite order_amount"),),
            when=_ITEM,
            note="operator",
        ),
        Panel(
            "item_loss",
            "items",
            (
                chart(lambda rows, words: charts.item_buckets(rows, "item_id", words), 360),
                table(
                    "item_id shop_id category visitors bought_item bought_similar "
                    "bought_other bought_elsewhere nothing lost_after_favorite "
                    "lost_after_cart conversion loss_rate",
                    item_id=lambda row: {"item": row["item_id"], "shop": row["shop_id"], "sort": ""},
                ),
            ),
            when=lambda chosen: not chosen.item,
        ),
    ),
    "buyers": (
        Panel(
            "customer_profile",
            "customer_profile",
            (
                table(
                    "shop_id stage stage_since tier purchase_days monetary last_order_on "
                    "usual_gap_days next_order_on p_alive p_return_90d discount_affinity "
                    "preferred_categories last_seen_at"
                ),
            ),
            when=_CUSTOMER,
        ),
        Panel(
            "customer_evidence",
            "customer_evidence",
            (table("at shop_id kind said evidence"),),
            when=_CUSTOMER,
        ),
        Panel(
            "customer_sessions",
            "customer_sessions",
            (table("started_at shop_id outcome lost_stage events channel cart_value revenue recovered"),),
            when=_CUSTOMER,
        ),
        Panel(
            "lapsing_buyers",
            "lapsing",
            (
                table(
                    "customer_id shop_id tier monetary last_order_on silent_days "
                    "usual_gap_days overdue_days p_alive p_return_90d discount_affinity "
                    "preferred_categories",
                    customer_id=lambda row: {
                        "customer": row["customer_id"],
                        "shop": row["shop_id"],
                        "sort": "",
                    },
                ),
            ),
            when=lambda chosen: not chosen.customer,
        ),
    ),
    "lifecycle": (
        Panel(
            "stages_now",
            "stages_now",
            (
                chart(lambda rows, words: charts.bars(rows, ("stage",), "customers", words), 240),
                table("stage customers orders monetary"),
            ),
        ),
        Panel(
            "stage_moves",
            "stage_moves",
            (
                chart(
                    lambda rows, words: charts.sankey(rows, ("from_stage", "to_stage"), "customers", words),
                    320,
                ),
                table("from_stage to_stage cause customers"),
            ),
        ),
        Panel(
            "tiers",
            "tiers",
            (table("tier buyers share r f m median_recency_days median_purchase_days monetary"),),
        ),
    ),
    "segments": (
        Panel(
            "segments_now",
            "segments_now",
            (
                chart(lambda rows, words: charts.bars(rows, ("segment",), "members", words), 260),
                table(
                    "segment members entered by_silence left",
                    segment=lambda row: {"segment": row["segment"], "sort": ""},
                ),
            ),
        ),
        Panel(
            "segment_people",
            "segment_people",
            (
                table(
                    "customer_id shop_id since cause stage orders monetary",
                    customer_id=lambda row: {
                        "page": "buyers",
                        "customer": row["customer_id"],
                        "shop": row["shop_id"],
                    },
                ),
            ),
            when=_SEGMENT,
        ),
    ),
    "products": (
        Panel(
            "product_matrix",
            "product_matrix",
            (
                chart(charts.matrix, 420),
                table(
                    "item_id role category visitors conversion revenue_per_visitor "
                    "discount_share new_visitor_share repeat_affinity growth "
                    "traffic_score profit_score potential_score",
                    item_id=lambda row: {"page": "items", "item": row["item_id"], "shop": row["shop_id"]},
                ),
            ),
            when=lambda chosen: bool(chosen.shop),
        ),
    ),
    "report": (),
    "pipeline": (
        Panel(
            "pipeline alerts",
            "alerts",
            (table("status severity signal scope_value began_at resolved_at summary"),),
            given={"kind": "pipeline", "shop": ""},
        ),
        Panel(
            "ingest",
            "ingest",
            (table("topic received applied duplicate late rejected"),),
        ),
        Panel("watermarks", "watermarks", (table("partition watermark behind_s"),)),
        Panel("dead_letters", "dead_letters", (table("reason topic records latest detail"),)),
        Panel(
            "hooks",
            "deliveries",
            (table("endpoint status deliveries attempts latest error"),),
        ),
    ),
}

#: Pages that are about one shop.
OF_ONE_SHOP: Final = frozenset({"products", "report"})
