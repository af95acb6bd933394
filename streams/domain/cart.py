"""The cart of one session: which lines stand, and what they are worth.

Operations are kept as they were said and folded in event order, so their order of arrival is of no
consequence: the last statement about an item (``set``, ``remove``, ``clear``) is a register that the
latest (time, id) wins, and the ``add``s after it raise it.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from streams.domain.events import CartAction

ADD: Final = 0
SET: Final = 1
REMOVE: Final = 2
CLEAR: Final = 3
CODES: Final[dict[CartAction, int]] = {"add": ADD, "set": SET, "remove": REMOVE, "clear": CLEAR}

Stamp = tuple[int, int]
BEFORE_ALL: Final[Stamp] = (-1, -1)


class CartOp(Struct, array_like=True, frozen=True, gc=False):
    """One cart event; ``price`` of one unit in ten-thousandths."""

    t: int
    id: int
    code: int
    item: str | None
    quantity: int
    price: int | None
    currency: str | None


class Line(Struct, frozen=True, gc=False):
    """One item of the folded cart; ``touched`` is the stamp of its latest ``set`` or ``add``."""

    item: str
    quantity: int
    price: int
    currency: str | None
    touched: Stamp


def fold(ops: list[CartOp]) -> list[Line]:
    """The lines with a quantity above zero after all of ``ops``, in any order given."""
    cleared = BEFORE_ALL
    by_item: dict[str, list[CartOp]] = {}
    for op in sorted(ops, key=_stamp):
        if op.code == CLEAR:
            cleared = (op.t, op.id)
        elif op.item is not None:
            by_item.setdefault(op.item, []).append(op)
    lines = []
    for item, said in by_item.items():
        line = _fold_item(item, said, cleared)
        if line.quantity > 0:
            lines.append(line)
    return lines


def _fold_item(item: str, said: list[CartOp], cleared: Stamp) -> Line:
    stated_at, quantity = cleared, 0
    touched = BEFORE_ALL
    price, currency = 0, None
    for op in said:
        stamp = (op.t, op.id)
        if op.code != ADD and stamp > stated_at:
            stated_at = stamp
            quantity = op.quantity if op.code == SET else 0
        elif op.code == ADD and stamp > stated_at:
            quantity += op.quantity
        if op.code != REMOVE:
            touched = stamp
            if op.price is not None:
                price, currency = op.price, op.currency
    return Line(item, quantity, price, currency, touched)


def _stamp(op: CartOp) -> Stamp:
    return (op.t, op.id)
