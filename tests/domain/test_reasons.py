"""Reasons: what each rests on, what outweighs what, and the laws that scores keep to."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from streams.domain.facts import LostStage
from streams.domain.loss_facts import Reason
from streams.domain.policy import DAY, Policy
from streams.domain.reasons import (
    PRECEDENCE,
    THRESHOLD,
    Bought,
    Grievance,
    GrievanceKind,
    LapseEvidence,
    LossEvidence,
    Move,
    Verdict,
    turns,
    why_lapsed,
    why_lost,
)

WINDOW = Policy().grievance_window
LOST = LossEvidence("carted", (), None, WINDOW)
LAPSED = LapseEvidence(200, 200, 100, False, (), None, WINDOW)


def bought(*told: tuple[str, int | None]) -> tuple[Bought, ...]:
    return tuple(Bought(shop, price, "EUR") for shop, price in told)


def move(here: int | None = 100_000, there: int | None = 90_000, *told: tuple[str, int | None]) -> Move:
    return Move("shoes", "there", "o", here, there, bought(*told))


#: Several shops in turn: half of the changes led to a cheaper one, all of them, or none.
ROTATES = (("a", 100), ("b", 80), ("there", 120))
HUNTS = (("a", 100), ("b", 80), ("there", 60))
CLIMBS = (("a", 1), ("b", 2), ("c", 3), ("d", 4), ("there", 5))

told = st.integers(0, 10_000_000)
prices = st.none() | told
histories = st.lists(
    st.builds(Bought, st.sampled_from("abcd"), prices, st.sampled_from(["EUR", "USD", None])), max_size=6
).map(tuple)
#: One order moves a category once, so no two moves have the same names.
moves = st.lists(
    st.builds(
        Move, st.just("shoes"), st.sampled_from("bcd"), st.sampled_from("op"), prices, prices, histories
    ),
    max_size=3,
    unique_by=lambda one: (one.to_shop_id, one.order_id),
).map(tuple)
grievances = st.none() | st.builds(
    Grievance, st.sampled_from(get_args(GrievanceKind)), st.integers(0, 2 * WINDOW)
)
losses = st.builds(
    LossEvidence, st.sampled_from(get_args(LostStage)), moves, grievances, st.sampled_from([0, DAY, WINDOW])
)
spans = st.integers(0, 1_000)
lapses = st.builds(
    LapseEvidence, spans, spans, spans, st.booleans(), moves, grievances, st.sampled_from([0, DAY, WINDOW])
)


def why(of: LossEvidence | LapseEvidence) -> Verdict:
    return why_lost(of) if isinstance(of, LossEvidence) else why_lapsed(of)


@pytest.mark.parametrize(
    ("evidence", "reason", "score"),
    [
        (LOST, "unknown", 0.0),
        (replace(LOST, stage="favorited"), "unknown", 0.0),
        (replace(LOST, stage="browsed"), "natural", 0.4),
        (replace(LOST, stage="bounced"), "natural", 0.4),
        (replace(LOST, moves=(move(100_000, 90_000),)), "price", 0.75),
        (replace(LOST, moves=(move(100_000, 97_000),)), "price", 0.61),
        (replace(LOST, moves=(move(100_000, 97_001),)), "competition", 0.65),
        (replace(LOST, moves=(move(100_000, 100_000),)), "competition", 0.65),
        (replace(LOST, moves=(move(100_000, 110_000),)), "competition", 0.75),
        (replace(LOST, moves=(move(100_000, 200_000),)), "competition", 0.85),
        (replace(LOST, moves=(move(0, 110_000),)), "competition", 0.65),
        (replace(LOST, moves=(move(None, 110_000),)), "competition", 0.5),
        (replace(LOST, moves=(move(None, 110_000),), stage="browsed"), "competition", 0.5),
        (replace(LOST, moves=(move(100_000, 110_000, *ROTATES),)), "variety", 0.75),
        (replace(LOST, moves=(move(100_000, 80_000, *ROTATES),)), "variety", 0.75),
        (replace(LOST, moves=(move(100_000, 90_000, ("z", 110), *ROTATES),)), "variety", 0.79),
        (replace(LOST, moves=(move(None, None, *CLIMBS),)), "variety", 0.93),
        (replace(LOST, moves=(move(100_000, 80_000, *HUNTS),)), "price", 0.94),
        (replace(LOST, moves=(move(100_000, 80_000, *ROTATES[1:]),)), "price", 0.94),
        (replace(LOST, grievance=Grievance("review", 0)), "dissatisfied", 0.99),
        (replace(LOST, grievance=Grievance("reply", WINDOW // 6)), "dissatisfied", 0.95),
        (replace(LOST, grievance=Grievance("review", WINDOW // 2)), "dissatisfied", 0.59),
        (replace(LOST, grievance=Grievance("review", WINDOW - DAY)), "unknown", 0.0),
        (replace(LOST, grievance=Grievance("review", WINDOW)), "unknown", 0.0),
        (replace(LOST, grievance=Grievance("review", 0), window=0), "unknown", 0.0),
        (LAPSED, "forgot", 0.6),
        (replace(LAPSED, one_time=True), "forgot", 0.64),
        (replace(LAPSED, unseen=100), "forgot", 0.5),
        (replace(LAPSED, unseen=99), "unknown", 0.0),
        (replace(LAPSED, moves=(move(100_000, 100_000),)), "competition", 0.65),
        (replace(LAPSED, moves=(move(None, None),)), "forgot", 0.6),
        (replace(LAPSED, moves=(move(100_000, 90_000),)), "price", 0.75),
        (replace(LAPSED, grievance=Grievance("cancelled", DAY)), "dissatisfied", 0.96),
    ],
)
def test_what_happened_gives_its_reason(
    evidence: LossEvidence | LapseEvidence, reason: str, score: float
) -> None:
    found = why(evidence)
    assert (found.reason, found.score) == (reason, score)


@pytest.mark.parametrize("kind", get_args(GrievanceKind))
@pytest.mark.parametrize("leak", [move(100_000, 1), move(100_000, 200_000), move(None, None, *ROTATES)])
def test_something_bad_shortly_before_outweighs_all_else(kind: GrievanceKind, leak: Move) -> None:
    grievance = Grievance(kind, WINDOW // 6)
    assert why(replace(LOST, moves=(leak,), grievance=grievance)).reason == "dissatisfied"
    assert why(replace(LAPSED, moves=(leak,), grievance=grievance)).reason == "dissatisfied"


def test_of_several_moves_the_clearest_is_told_with_its_evidence() -> None:
    weak, clear = move(None, 90_000), replace(move(100_000, 90_000), order_id="p")
    found = why_lost(replace(LOST, moves=(weak, clear)))
    assert found == why_lost(replace(LOST, moves=(clear, weak)))
    assert found.evidence == {
        "stage": "carted",
        "category": "shoes",
        "to_shop": "there",
        "order": "p",
        "price_here": "10.0000",
        "price_there": "9.0000",
        "shops": "0",
        "changes": "0",
        "not_cheaper": "50",
    }
    assert (found.scores, found.category) == ({"price": 0.75}, "shoes")


def test_a_lapse_tells_its_silence_and_the_grievance() -> None:
    found = why_lapsed(replace(LAPSED, grievance=Grievance("review", 45 * DAY)))
    assert found.scores == {"dissatisfied": 0.59, "forgot": 0.6}
    assert found.evidence == {
        "silence_days": "200",
        "unseen_days": "200",
        "q90_days": "100",
        "one_time": "false",
        "grievance": "review",
        "grievance_days": "45",
    }


def test_turns_count_changes_of_shop_and_compare_prices_of_one_currency() -> None:
    assert turns(()) == (0, 0, 50)
    assert turns(bought(("a", 100), ("a", 10), ("a", 200))) == (1, 0, 50)
    assert turns(bought(("a", 100), ("b", 97), ("a", 95), ("c", None))) == (3, 3, 50)
    assert turns(bought(("a", 100), ("b", 98), ("c", 60), ("a", 70))) == (3, 3, 66)
    assert turns((Bought("a", 100, "EUR"), Bought("b", 10, "USD"))) == (2, 1, 50)
    assert turns(bought(("a", 0), ("b", 0))) == (2, 1, 100)


@given(losses | lapses)
def test_the_reason_has_the_highest_score_and_unknown_has_none(of: LossEvidence | LapseEvidence) -> None:
    found = why(of)
    assert all(0 < score <= 1 and round(score, 2) == score for score in found.scores.values())
    best = max(found.scores.values(), default=0.0)
    if best * 100 < THRESHOLD:
        assert (found.reason, found.score) == ("unknown", 0.0)
    else:
        first = next(name for name in PRECEDENCE if found.scores.get(name) == best)
        assert (found.reason, found.score) == (first, best)


@given(losses | lapses)
def test_no_evidence_no_score(of: LossEvidence | LapseEvidence) -> None:
    """Each score comes from evidence of its own, and natural is never said of a lapse or an intent."""
    scores = why(of).scores
    assert "dissatisfied" not in why(replace(of, grievance=None)).scores
    without = why(replace(of, moves=())).scores
    assert not {"price", "competition", "variety"} & without.keys()
    assert ("natural" in scores) == (isinstance(of, LossEvidence) and of.stage in ("bounced", "browsed"))
    assert "forgot" not in scores or isinstance(of, LapseEvidence)


@given(losses, histories, told, told, st.integers(0, 1_000_000), st.data())
def test_a_wider_gap_of_price_never_scores_price_lower(
    of: LossEvidence, history: tuple[Bought, ...], here: int, there: int, more: int, data: st.DataObject
) -> None:
    """All else being equal: also where another move was the clearest before."""
    one = Move("shoes", "b", "q", here, there, history)
    wider = replace(one, price_here=here + more, price_there=data.draw(st.integers(0, there)))
    before = why_lost(replace(of, moves=(*of.moves, one))).scores
    assert why_lost(replace(of, moves=(*of.moves, wider))).scores.get("price", 0) >= before.get("price", 0)


@given(losses, st.sampled_from(get_args(GrievanceKind)), st.integers(0, WINDOW), st.integers(0, WINDOW))
def test_a_grievance_further_away_never_scores_higher(
    of: LossEvidence, kind: GrievanceKind, age: int, more: int
) -> None:
    near = why_lost(replace(of, grievance=Grievance(kind, age))).scores
    far = why_lost(replace(of, grievance=Grievance(kind, age + more))).scores
    assert far.get("dissatisfied", 0) <= near.get("dissatisfied", 0)


@given(lapses, spans)
def test_a_longer_silence_never_scores_forgot_lower(of: LapseEvidence, more: int) -> None:
    longer = replace(of, unseen=of.unseen + more)
    assert why_lapsed(longer).scores.get("forgot", 0) >= why_lapsed(of).scores.get("forgot", 0)


@given(losses | lapses, st.data())
def test_the_order_of_moves_is_of_no_consequence(
    of: LossEvidence | LapseEvidence, data: st.DataObject
) -> None:
    shuffled = tuple(data.draw(st.permutations(of.moves)))
    assert why(replace(of, moves=shuffled)) == why(of)


def test_every_reason_but_unknown_has_its_place() -> None:
    assert {*PRECEDENCE, "unknown"} == set(get_args(Reason))
