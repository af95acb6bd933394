"""Taobao's user behaviour: what each line becomes, and that none is lost."""

from __future__ import annotations

import gzip
import json
import random
from collections import Counter
from pathlib import Path

import cramjam
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.sources.record import MAX_VALUE_BYTES, SourceError, SourceRecord
from streams.sources.registry import FileSource
from tests.sources.real_data import real_file

LINES = b"""1,11,111,pv,1511658000
1,11,111,fav,1511658001
1,11,111,cart,1511658002
1,11,111,buy,1511658003
"""


def read(path: Path, content: bytes | None = None, **options: str) -> list[SourceRecord]:
    if content is not None:
        path.write_bytes(content)
    source = FileSource(path, "userbehavior", **options)
    records = list(source)
    assert source.fraction == 1.0
    return records


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "behavior.csv"


def test_each_behaviour_becomes_the_event_it_is(path: Path) -> None:
    visit, favorite, cart, order = (json.loads(r.value) for r in read(path, LINES))
    envelope = {"customer_id": "1", "shop_id": "taobao"}
    goods = {"item_id": "11", "category": "111"}
    ids = [e.pop("event_id") for e in (visit, favorite, cart, order)]
    assert len(set(ids)) == 4
    assert visit == {**envelope, **goods, "occurred_at": 1511658000000}
    assert favorite == {**envelope, **goods, "occurred_at": 1511658001000, "action": "add"}
    assert cart == {**envelope, **goods, "occurred_at": 1511658002000, "action": "add"}
    assert order == {
        **envelope,
        "occurred_at": 1511658003000,
        "action": "placed",
        "order_id": ids[3],
        "lines": [goods],
    }


def test_key_is_the_customer_and_topic_the_kind(path: Path) -> None:
    records = read(path, LINES)
    assert [r.topic.name for r in records] == ["visits", "favorites", "carts", "orders"]
    assert {r.key for r in records} == {b"1"}
    assert [r.at for r in records] == [1511658000000, 1511658001000, 1511658002000, 1511658003000]


def test_a_shop_can_be_named(path: Path) -> None:
    assert json.loads(read(path, LINES, shop="tmall")[0].value)["shop_id"] == "tmall"


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf", b"user_id,item_id,category_id,behavior,timestamp\n"])
def test_line_ends_byte_order_mark_and_header_change_nothing(path: Path, start: bytes, end: bytes) -> None:
    assert read(path, start + LINES.replace(b"\n", end)) == read(path, LINES)


@pytest.mark.parametrize("name", ["behavior.csv.gz", "behavior.csv.zst", "named-wrongly.csv"])
def test_compressed_files_read_the_same(tmp_path: Path, name: str) -> None:
    plain = read(tmp_path / "plain.csv", LINES * 5000)
    packed = (
        bytes(cramjam.zstd.compress(LINES * 5000)) if name.endswith("zst") else gzip.compress(LINES * 5000)
    )
    assert read(tmp_path / name, packed) == plain


@pytest.mark.parametrize(
    ("line", "key"),
    [
        (b"1,11,111,pv", b"1"),
        (b"1,11,111,pv,", b"1"),
        (b"1,11,111,pv,soon", b"1"),
        (b"1,11,111,pv,nan", b"1"),
        (b"1,11,111,pv,1e300", b"1"),
        (b"1,11,111,pv,15,16", b"1"),
        (b"1,11,111,stare,1511658000", b"1"),
        (b"1,,111,pv,1511658000", b"1"),
        (b",11,111,pv,1511658000", None),
        (b"1,\xff,111,pv,1511658000", b"1"),
        (b"17", None),
        (b"{}", None),
        (b"x" * 2000 + b",", None),
    ],
)
def test_a_line_that_is_no_event_goes_to_visits_as_it_came(
    path: Path, line: bytes, key: bytes | None
) -> None:
    records = read(path, LINES + line + b"\n" + LINES)
    assert len(records) == 9
    bad = records[4]
    assert (bad.topic.name, bad.key, bad.value, bad.at) == ("visits", key, line, None)


@pytest.mark.parametrize("seconds", [15, -2134949234, 4294967296, 1511658000.0])
def test_a_time_that_cannot_be_is_still_sent_as_an_event(path: Path, seconds: float) -> None:
    [record] = read(path, f"1,11,111,pv,{seconds}".encode())
    assert json.loads(record.value)["occurred_at"] == record.at == seconds * 1000


def test_a_line_longer_than_a_record_may_be_is_cut_and_the_next_one_is_whole(path: Path) -> None:
    long, after = read(path, b"y" * (3 * MAX_VALUE_BYTES) + b"\n1,11,111,pv,1511658000\n")
    assert long.value == b"y" * MAX_VALUE_BYTES
    assert after.at == 1511658000000


def test_an_empty_file_is_no_record(path: Path) -> None:
    assert read(path, b"") == read(path, b"\n\n \r\n") == []


def test_the_same_line_anywhere_is_the_same_event(path: Path) -> None:
    once = read(path, LINES)
    assert Counter(read(path, LINES + LINES)) == Counter(once + once)


line = st.one_of(
    st.tuples(
        st.integers(0, 50),
        st.integers(0, 50),
        st.integers(0, 9),
        st.sampled_from(["pv", "fav", "cart", "buy", "?"]),
        st.integers(-(2**40), 2**40),
    ).map(lambda t: ",".join(map(str, t)).encode()),
    st.binary(max_size=40).filter(lambda b: b.strip() and b"\n" not in b),
)


@given(lines=st.lists(line, max_size=30), seed=st.integers(0, 99))
def test_every_line_is_sent_and_shuffling_keeps_every_record(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], seed: int
) -> None:
    path = tmp_path_factory.mktemp("shuffled") / "behavior.csv"
    # A first line that is an event: a headerless file never starts with words.
    head = b"1,11,111,pv,1511658000\n"
    straight = read(path, head + b"\n".join(lines))
    random.Random(seed).shuffle(lines)
    assert len(straight) == len(lines) + 1
    assert Counter(read(path, head + b"\n".join(lines))) == Counter(straight)


def test_what_cannot_be_read_is_told_in_one_sentence(tmp_path: Path, path: Path) -> None:
    with pytest.raises(SourceError, match="there is no file"):
        FileSource(tmp_path / "nothing.csv", "userbehavior")
    with pytest.raises(SourceError, match="is a directory"):
        FileSource(tmp_path, "userbehavior")
    path.write_bytes(LINES)
    with pytest.raises(SourceError, match="no format 'csv'; it is one of userbehavior"):
        FileSource(path, "csv")


def test_damaged_compression_gives_its_lines_then_an_error(path: Path) -> None:
    rng = random.Random(1)
    content = b"".join(b"%d,11,111,pv,1511658000\n" % rng.getrandbits(60) for _ in range(200_000))
    path.write_bytes(gzip.compress(content)[:-1000])
    records = []
    with pytest.raises(SourceError, match="cannot be read as gzip data"):
        records.extend(FileSource(path, "userbehavior"))
    assert len(records) > 100_000


def test_the_real_file_has_its_known_counts() -> None:
    records = read(real_file("userbehavior.csv"))
    assert Counter(r.topic.name for r in records) == {
        "visits": 85_774,  # 85,773 and the cut last line
        "favorites": 2_959,
        "carts": 5_292,
        "orders": 2_144,
    }
    assert len({json.loads(r.value)["event_id"] for r in records}) == len(records) == 96_169
    assert records[-1].at == 15_000
    assert len({r.key for r in records if r.topic.name == "orders"}) == 2_071
