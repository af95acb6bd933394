"""The stages by example, each with what brings it about; and the diagram in the README."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from streams.domain.days import day_of
from streams.domain.lapse import ModifiedBetaGeometric, PersonalRhythm
from streams.domain.lifecycle import STAGE_TRANSITIONS, diagram
from streams.domain.outlook import ShopModel
from streams.domain.policy import DAY
from tests.domain.buyer_reference import Said
from tests.domain.buyer_stories import MODEL, POLICY, START, Counter

README = Path(__file__).parents[2] / "README.md"


def placed(*days: int) -> list[Said]:
    return [Said(START + day * DAY, day, f"o{day}", "placed", 10_000, "GBP") for day in days]


def after(until: int, *days: int) -> Counter:
    counter = Counter()
    counter.take(placed(*days))
    counter.until(START + until * DAY)
    return counter


def path(counter: Counter) -> list[str | None]:
    return [to for _, _, _, to, _ in sorted(counter.stages(), key=lambda t: t[1])]


def test_the_readme_has_the_diagram_of_the_table() -> None:
    """Whoever changes the table runs ``python -m tests.domain.test_lifecycle`` to change the diagram."""
    assert f"```mermaid\n{diagram()}```" in README.read_text("utf-8")


def test_the_table_leaves_no_stage_without_a_way_out() -> None:
    """An order leads on from every stage; nobody becomes a prospect again but by a correction."""
    stages = {stage for stage, _ in STAGE_TRANSITIONS}
    assert stages == {"prospect", "new", "active", "lapsing", "lapsed", "won_back"}
    assert all((stage, "order") in STAGE_TRANSITIONS for stage in stages)
    assert "prospect" not in STAGE_TRANSITIONS.values()


def test_the_whole_way_around() -> None:
    """First order, second, too long, far too long, back again, and an active buyer."""
    counter = after(64, 0, 3, 60, 63)
    assert path(counter) == ["new", "active", "lapsing", "lapsed", "won_back", "active"]


def test_two_orders_on_one_day_are_one_purchase() -> None:
    """The second does not make a new buyer an active one."""
    counter = Counter()
    first = placed(0)[0]
    counter.take([first, first._replace(at=first.at + 1, id=1, order="other")])
    counter.until(START + DAY)
    assert path(counter) == ["new"]
    assert counter.profile is not None
    assert (counter.profile.purchase_days, counter.profile.orders) == (1, 2)


def test_lapsing_begins_with_the_day_on_which_the_chance_is_too_low() -> None:
    """No event comes: the deadline alone does it, on that day and not the one before."""
    counter = after(40, 0, 3, 6)
    [step] = [t for t in counter.transitions.values() if t.to_state == "lapsing"]
    silent = day_of(step.at, POLICY.zone) - day_of(step.anchor, POLICY.zone)
    assert MODEL.lapse.p_alive(2, 6, 6 + silent) <= 0.5 < MODEL.lapse.p_alive(2, 6, 6 + silent - 1)
    assert step.p_alive == round(MODEL.lapse.p_alive(2, 6, 6 + silent), 4)
    assert step.usual_gap_days == 3.0
    assert step.overdue_days is not None
    assert step.overdue_days > 0


def test_lapsed_begins_when_the_policy_says() -> None:
    """On the day that is as many days after the last purchase day."""
    counter = after(60, 0)
    [step] = [t for t in counter.transitions.values() if t.to_state == "lapsed"]
    assert day_of(step.at, POLICY.zone) - day_of(START, POLICY.zone) == POLICY.lapsed_after // DAY
    assert day_of(step.at - 1, POLICY.zone) < day_of(step.at, POLICY.zone)
    assert step.cause == "silence"


def test_who_buys_every_day_is_not_lapsing_every_night() -> None:
    """However short the rhythm, a whole day without an order must have passed."""
    counter = Counter()
    for said in placed(*range(20)):
        counter.until(said.at + DAY // 2)
        counter.take([said._replace(at=said.at + DAY // 2)])
    counter.until(START + 20 * DAY)
    assert path(counter) == ["new", "active"]
    counter.until(START + 22 * DAY)
    assert path(counter) == ["new", "active", "lapsing"]


def test_a_late_order_takes_back_that_the_buyer_was_lapsing() -> None:
    """It arrives after the day on which it says that they bought."""
    counter = after(20, 0, 3)
    [lapsing] = [t for t in counter.transitions.values() if t.to_state == "lapsing"]
    counter = after((lapsing.at - START) // DAY + 1, 0, 3)
    counter.take([Said(lapsing.at - 60_000, 99, "late", "placed", 10_000, "GBP")])
    counter.until(lapsing.at + DAY)
    withdrawn = counter.transitions[lapsing.transition_id]
    assert (withdrawn.is_deleted, withdrawn.cause) == (True, "order")
    assert path(counter) == ["new", "active"]


def test_a_new_model_leaves_what_was_told_and_moves_what_lies_ahead() -> None:
    """Quicker: lapsing from now on, because of the model; slower: what was told stands."""
    counter = after(5, 0, 3)
    assert path(counter) == ["new", "active"]
    counter.model = ShopModel("s", 2, PersonalRhythm(0.2, 50.0, 0.4), None, 0.5)
    counter.until(START + 5 * DAY + 1000)
    [step] = [t for t in counter.transitions.values() if t.to_state == "lapsing"]
    assert (step.at, step.cause, step.model_version) == (START + 5 * DAY + 1000, "model", 2)
    counter.model = ShopModel("s", 3, ModifiedBetaGeometric(2.0, 200.0, 0.1, 9.0), None, 0.5)
    counter.until(START + 6 * DAY)
    assert path(counter) == ["new", "active", "lapsing"]
    assert not any(t.is_deleted for t in counter.transitions.values())


@pytest.mark.parametrize("version", [1, 2])
def test_a_model_travels_as_bytes(version: int) -> None:
    """As it is published on the topic of models."""
    model = ShopModel("s", version, ModifiedBetaGeometric(0.5, 20.0, 0.8, 2.4))
    assert msgspec.json.decode(msgspec.json.encode(model), type=ShopModel) == model


if __name__ == "__main__":
    text = README.read_text("utf-8")
    begin, end = "<!-- lifecycle: generated -->\n", "<!-- lifecycle: end -->"
    before, rest = text.split(begin)
    README.write_text(f"{before}{begin}```mermaid\n{diagram()}```\n{end}{rest.split(end)[1]}", "utf-8")
