"""What an order has come to, line by line: its total, less what was taken back, shared out over its lines."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from streams.domain.days import date_of, day_of
from streams.domain.facts import EPOCH, money
from streams.domain.loss_facts import PurchaseFact, PurchaseLine
from streams.domain.order import Detail, OrderRecord
from streams.domain.policy import Policy


def shares(record: OrderRecord, taken_back: int | None) -> list[int]:
    """What is left of the order's total, shared out over its lines, in ten-thousandths; adds up exactly.

    In proportion to gross less discount; to the pieces where no line has a price; evenly where there are no
    pieces either. taken_back: of the total, None for all of it. Rounded down along the running sum, so what
    a line loses by rounding the next one has.
    """
    left = 0 if taken_back is None else max(0, record.total - taken_back)
    details = record.details
    if len(details) == 1:
        return [left]
    weights: Sequence[int] = [max(max(d.gross, 0) - d.discount, 0) for d in details]
    if not any(weights):
        weights = [d.quantity for d in details]
        if not any(weights):
            weights = [1] * len(details)
    sums = list(accumulate(weights))
    if not sums:
        return []
    whole = sums[-1]
    ends = [left * each // whole for each in sums]
    return [end - begin for begin, end in zip([0, *ends], ends, strict=False)]


def unit_price(details: Sequence[Detail]) -> int | None:
    """The mean price of a piece as ordered, in ten-thousandths, rounded down; None where no line tells it."""
    priced = [d for d in details if d.gross >= 0]
    pieces = sum(d.quantity for d in priced)
    return max(0, sum(d.gross - d.discount for d in priced)) // pieces if pieces else None


def purchase(
    customer_id: str, shop_id: str, order_id: str, record: OrderRecord, policy: Policy
) -> PurchaseFact | None:
    """The order's fact, in the zone of ``policy``; None while only amendments are known of it."""
    moment = record.moment()
    if moment is None:
        return None
    back = record.refunded(policy.amendment_window)
    # More may be taken off the lines than they are worth.
    total = max(record.total, 0)
    refunded = total if back is None else min(total, back)
    lines = [
        PurchaseLine(
            item_id=item,
            category=record.categories[detail.category] if detail.category >= 0 else None,
            quantity=detail.quantity,
            gross=money(max(detail.gross, 0)),
            discount=money(detail.discount),
            net=money(net),
        )
        for item, detail, net in zip(record.items, record.details, shares(record, back), strict=False)
    ]
    return PurchaseFact(
        shop_id=shop_id,
        customer_id=customer_id,
        order_id=order_id,
        ordered_at=moment[1],
        day=date_of(day_of(moment[1], policy.zone)),
        total=money(total),
        refunded=money(refunded),
        is_reversed=back is None,
        currency=record.currency,
        lines=tuple(lines),
        version=record.weight(policy.amendment_window),
        is_deleted=False,
    )


def withdrawn(customer_id: str, shop_id: str, order_id: str, version: int) -> PurchaseFact:
    """Takes back whatever was said of an order that has turned out to be somebody else's."""
    nothing = money(0)
    return PurchaseFact(
        shop_id=shop_id,
        customer_id=customer_id,
        order_id=order_id,
        ordered_at=0,
        day=EPOCH,
        total=nothing,
        refunded=nothing,
        is_reversed=False,
        currency=None,
        lines=(),
        version=version,
        is_deleted=True,
    )
