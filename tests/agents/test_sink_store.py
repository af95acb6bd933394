"""Where ClickHouse is, and how its absence is told, without any ClickHouse."""

from __future__ import annotations

import socket

import pytest

from streams.adapters.clickhouse import Endpoint, StoreError, StoreUnavailable, connect


def test_a_url_is_taken_apart() -> None:
    endpoint = Endpoint.parse("https://me:p%40ss%2F@ch.example/shop?ca_cert=own.pem&verify=0")
    assert endpoint == Endpoint(
        "ch.example", 8443, "me", "p@ss/", "shop", secure=True, verify=False, ca_cert="own.pem"
    )
    assert Endpoint.parse("http://127.0.0.1/db") == Endpoint(
        "127.0.0.1", 8123, "default", "", "db", secure=False
    )


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("clickhouse:9000", "is not a ClickHouse URL"),
        ("http://", "is not a ClickHouse URL"),
        ("http://host:99999/db", "port"),
        ("http://host:8123", "must name a database"),
        ("http://host:8123/a`b", "must name a database"),
        ("http://host:8123/db?compress=1", "options we do not know: compress"),
    ],
)
def test_what_is_no_url_of_ours_is_said_in_one_sentence(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said):
        Endpoint.parse(url)


def test_a_password_is_never_told() -> None:
    with pytest.raises(StoreError) as found:
        Endpoint.parse("http://me:secret@host:8123")
    assert "secret" not in str(found.value)
    assert "secret" not in repr(Endpoint.parse("http://me:secret@host:8123/db"))


def test_nobody_at_the_address_is_an_outage() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        with pytest.raises(StoreUnavailable, match="cannot be reached") as found:
            connect(f"http://127.0.0.1:{port}/db")
    assert len(str(found.value)) < 200
