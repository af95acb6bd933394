"""The transport's parts that need no broker: books on bundles, ends of changelogs, stalls, security."""

from __future__ import annotations

import random
import ssl
from dataclasses import replace
from pathlib import Path

import pytest
from faust.types import TP
from faust.types.auth import AuthProtocol
from hypothesis import given
from hypothesis import strategies as st

from streams.adapters.kafka.fetching import Fetch
from streams.adapters.kafka.ledger import Ledger
from streams.adapters.kafka.recovery import _Ends
from streams.adapters.kafka.security import aiokafka_kwargs, faust_credentials, kafka_python_kwargs
from streams.adapters.kafka.watchdog import LoopGuard, StalledError
from streams.settings import Settings, SettingsError

TP0 = TP("t", 0)

# -- the books on bundles


@given(
    sizes=st.lists(st.tuples(st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
)
def test_no_commit_passes_a_bundle_in_work(sizes: list[tuple[int, int]], order: random.Random) -> None:
    """Whatever the order of acks, what may be committed is the end of the leading bundles done."""
    ledger = Ledger(read=0)
    bundles: list[tuple[int, int]] = []
    for size, gap in sizes:
        first = ledger.read + gap
        ledger.deliver(first, first + size - 1, first + size)
        bundles.append((first, first + size - 1))
    pending = list(bundles)
    order.shuffle(pending)
    done: set[int] = set()
    for _, last in pending:
        assert ledger.ack(last)
        assert not ledger.ack(last)
        done.add(last)
        expected = None
        for _, end in bundles:
            if end not in done:
                break
            expected = end + 1
        assert ledger.due == expected
    assert ledger.settled
    ledger.committed = ledger.due
    assert ledger.due is None


def test_offsets_that_hold_nothing_are_committed_with_the_bundle_before_them() -> None:
    ledger = Ledger(read=10)
    ledger.deliver(10, 12, 13)
    ledger.skip(15)
    assert ledger.due is None
    ledger.ack(12)
    assert ledger.due == 15
    ledger.skip(17)
    assert ledger.due == 17


def test_a_bundle_below_the_position_is_refused() -> None:
    ledger = Ledger(read=10)
    with pytest.raises(ValueError, match="cannot follow position 10"):
        ledger.deliver(9, 12, 13)


# -- the end of a changelog


def test_only_an_answer_younger_than_the_seek_ends_a_replay() -> None:
    ends = _Ends()
    assert not ends.reached(TP0, 5, began=10.0, fetch=None)
    assert not ends.reached(TP0, 5, 10.0, Fetch(9.9, 5, 5, empty=True))
    assert ends.reached(TP0, 5, 10.0, Fetch(10.1, 5, 5, empty=True))


def test_a_high_watermark_below_the_position_is_waited_out() -> None:
    assert not _Ends().reached(TP0, 5, 10.0, Fetch(10.1, 5, 4, empty=True))


def test_a_tail_taken_by_compaction_ends_after_two_empty_answers() -> None:
    ends = _Ends()
    first, second = Fetch(11.0, 5, 9, empty=True), Fetch(12.0, 5, 9, empty=True)
    assert not ends.reached(TP0, 5, 10.0, first)
    assert not ends.reached(TP0, 5, 10.0, first)
    assert ends.reached(TP0, 5, 10.0, second)


def test_an_answer_full_of_other_partitions_says_nothing_of_this_one() -> None:
    ends = _Ends()
    assert not ends.reached(TP0, 5, 10.0, Fetch(11.0, 5, 9, empty=True))
    assert not ends.reached(TP0, 5, 10.0, Fetch(12.0, 5, 9, empty=False))
    assert not ends.reached(TP0, 5, 10.0, Fetch(13.0, 5, 9, empty=True))


# -- stalls


def test_a_loop_that_stood_still_is_known_before_and_after_it_runs_again() -> None:
    now = [0.0]
    guard = LoopGuard(5.0, clock=lambda: now[0])
    guard.check()
    guard.tick()
    now[0] = 5.0
    guard.check()
    guard.tick()
    now[0] = 10.5
    with pytest.raises(StalledError):
        guard.check()
    with pytest.raises(StalledError):
        guard.tick()
    now[0] = 10.6
    with pytest.raises(StalledError, match=r"stood still for 5\.5 s"):
        guard.check()


# -- security


def test_plaintext_is_the_default_of_every_client() -> None:
    settings = Settings(kafka="a:1, b:2")
    assert aiokafka_kwargs(settings)["security_protocol"] == "PLAINTEXT"
    assert kafka_python_kwargs(settings)["bootstrap_servers"] == ["a:1", "b:2"]
    assert faust_credentials(settings) is None


def test_sasl_with_tls_is_said_to_every_client() -> None:
    settings = Settings(
        security_protocol="SASL_SSL", sasl_mechanism="SCRAM-SHA-512", sasl_username="u", sasl_password="p"
    )
    kwargs = aiokafka_kwargs(settings)
    assert kwargs["security_protocol"] == "SASL_SSL"
    assert kwargs["sasl_mechanism"] == "SCRAM-SHA-512"
    assert isinstance(kwargs["ssl_context"], ssl.SSLContext)
    credentials = faust_credentials(settings)
    assert credentials is not None
    assert credentials.protocol is AuthProtocol.SASL_SSL
    assert faust_credentials(replace(settings, security_protocol="SSL", sasl_username="", sasl_password=""))


def test_a_password_never_travels_in_the_clear_unasked() -> None:
    plain = Settings(sasl_username="u", sasl_password="p")
    for ask in (aiokafka_kwargs, kafka_python_kwargs, faust_credentials):
        with pytest.raises(SettingsError, match="would not use it"):
            ask(plain)
    with pytest.raises(SettingsError, match="unencrypted"):
        Settings(security_protocol="SASL_PLAINTEXT", sasl_username="u", sasl_password="p")


def test_incomplete_security_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="needs EBBTIDE_SASL_USERNAME"):
        faust_credentials(Settings(security_protocol="SASL_SSL"))
    with pytest.raises(SettingsError, match="EBBTIDE_SSL_CAFILE"):
        aiokafka_kwargs(Settings(security_protocol="SSL", ssl_cafile=str(tmp_path / "none.pem")))
