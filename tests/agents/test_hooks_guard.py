"""Where hooks are not sent: URLs, addresses, and names that change their mind between two looks."""

from __future__ import annotations

import asyncio
import shutil
import socket
import ssl
import subprocess
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streams.adapters.webhook import Sender, Target
from streams.adapters.webhook_guard import Guard, HookRefused, networks
from streams.domain.deliveries import Answer
from streams.settings import Settings, SettingsError

PUBLIC = Guard()
INSECURE = Guard(insecure=True)
LOCAL = Guard(networks("127.0.0.0/8, ::1/128"), insecure=True)

_PRIVATE = """
    0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.100.100.200 100.127.255.255 127.0.0.1
    127.255.0.1 169.254.169.254 169.254.170.2 168.63.129.16 172.16.0.1 172.31.255.255 192.0.0.1
    192.0.0.192 192.0.2.1 192.88.99.1 192.168.1.1 198.18.0.1 198.51.100.1 203.0.113.1 224.0.0.1
    239.255.255.255 240.0.0.1 255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:10.0.0.1 ::ffff:8.8.8.8
    ::ffff:a9fe:a9fe ::127.0.0.1 ::ffff:0:127.0.0.1 64:ff9b::7f00:1 64:ff9b::8.8.8.8 64:ff9b::a9fe:a9fe
    64:ff9b:1::a00:1 64:ff9b:1:ffff:: 100::1 2001::1 2001:0:4136:e378:8000:63bf:3fff:fdd2 2001:2::1
    2001:10::1 2001:20::1 2001:db8::1 2002:7f00:1:: 2002:a9fe:a9fe::1 2606:4700::5efe:7f00:1
    2606:4700::200:5efe:7f00:1 3fff::1 4000::1 5f00::1 fc00::1 fd00:ec2::254 fd20:ce::254 fdff::1
    fe80::1 febf::1 fec0::1 ff02::1 ff0e::1 fe80::1%eth0 2606:4700::1%1
"""
PRIVATE = _PRIVATE.split()
REACHED = [
    "1.1.1.1",
    "8.8.8.8",
    "100.63.255.255",
    "100.128.0.0",
    "172.32.0.1",
    "192.0.1.1",
    "223.255.255.255",
]
REACHED += ["2606:4700:4700::1111", "2a00:1450::1", "2001:4860:4860::8888", "2400:cb00::1"]

#: Each a URL that some parser, resolver or reader takes for something else than it is.
TRICKS = {
    "loopback": "https://127.0.0.1/",
    "loopback, shortened": "https://127.1/",
    "loopback, decimal": "https://2130706433/",
    "loopback, hexadecimal": "https://0x7f000001/",
    "loopback, hexadecimal parts": "https://0x7f.0x0.0x0.0x1/",
    "loopback, octal": "https://0177.0.0.1/",
    "loopback, octal in one": "https://017700000001/",
    "loopback, mixed": "https://0x7f.1/",
    "loopback, overflowing": "https://127.0.0.257/",
    "loopback, leading zeros": "https://127.000.000.001/",
    "loopback, a dot at the end": "https://127.0.0.1./",
    "zero": "https://0/",
    "metadata": "https://169.254.169.254/latest/meta-data/",
    "metadata, decimal": "https://2852039166/",
    "metadata, a user before it": "https://example.com@169.254.169.254/",
    "a user and a password": "https://user:secret@example.com/",
    "an empty user": "https://@example.com/",
    "a user that looks like the host": "https://example.com:443@10.0.0.1/",
    "a backslash before the user": "https://example.com\\@10.0.0.1/",
    "a backslash in the host": "https://10.0.0.1\\.example.com/",
    "a fragment before the user": "https://example.com#@10.0.0.1/",
    "a tab in the host": "https://127.0.\t0.1/",
    "a line break in the path": "https://example.com/\r\nHost: internal",
    "a blank": "https://example.com /",
    "full-width digits": "https://１２７.０.０.１/",
    "circled digits": "https://①②⑦.⓪.⓪.①/",
    "an ideographic full stop": "https://127。0。0。1/",
    "letters in circles": "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
    "a soft hyphen": "https://local\u00adhost/",
    "a long s": "https://localhoſt/",
    "percent signs in the host": "https://%31%32%37.0.0.1/",
    "a null": "https://example.com%00.internal/",
    "IPv6 loopback": "https://[::1]/",
    "IPv6 any": "https://[::]/",
    "IPv4 in IPv6": "https://[::ffff:127.0.0.1]/",
    "IPv4 in IPv6, in full": "https://[0:0:0:0:0:ffff:7f00:1]/",
    "IPv4 in IPv6, metadata": "https://[::ffff:a9fe:a9fe]/",
    "IPv4-compatible": "https://[::7f00:1]/",
    "NAT64": "https://[64:ff9b::7f00:1]/",
    "NAT64, local": "https://[64:ff9b:1::7f00:1]/",
    "6to4": "https://[2002:7f00:1::]/",
    "Teredo": "https://[2001:0:7f00:1::]/",
    "link-local": "https://[fe80::1]/",
    "link-local, a zone": "https://[fe80::1%25eth0]/",
    "unique local": "https://[fd00::1]/",
    "a bracket left open": "https://[::1/",
    "carrier-grade NAT": "https://100.64.0.1/",
    "http": "http://example.com/",
    "file": "file:///etc/passwd",
    "gopher": "gopher://127.0.0.1:6379/_INFO",
    "ftp": "ftp://example.com/",
    "javascript": "javascript:alert(1)",
    "no scheme": "//example.com/",
    "no host": "https:///path",
    "https without slashes": "https:example.com",
    "a port of SSH": "https://example.com:22/",
    "a port of SMTP": "https://example.com:25/",
    "port 0": "https://example.com:0/",
    "a port too great": "https://example.com:99999/",
    "an empty port": "https://example.com:/",
    "a dot at the end": "https://example.com./",
    "two dots": "https://example..com/",
    "an empty first label": "https://.example.com/",
    "a label too long": f"https://{'a' * 64}.com/",
    "a name too long": f"https://{'a.' * 130}com/",
    "too long": f"https://example.com/{'a' * 3000}",
}


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public_is_refused(address: str) -> None:
    with pytest.raises(HookRefused):
        PUBLIC.check_address(address)


@pytest.mark.parametrize("address", REACHED)
def test_a_public_address_is_not(address: str) -> None:
    PUBLIC.check_address(address)


@given(st.ip_addresses())
def test_nothing_passes_that_python_knows_to_be_not_global(address: object) -> None:
    """Its list is of another hand: what it holds for private, so does the guard."""
    found = ip_address(str(address))
    if not found.is_global or found.is_multicast:
        with pytest.raises(HookRefused):
            PUBLIC.check_address(str(found))


@pytest.mark.parametrize("what", TRICKS)
def test_a_url_that_is_a_trick_is_refused(what: str) -> None:
    with pytest.raises(HookRefused) as refused:
        PUBLIC.check_url(TRICKS[what])
    assert "secret" not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com",
        "https://example.com/",
        "https://hooks.slack.com/services/T000/B000/XXXX",
        "https://example.com:8443/a/b?c=d&e=%2F",
        "https://xn--bcher-kva.example/",
        "https://EXAMPLE.com/",
        "https://a_b.example.com/",
        "https://1.1.1.1/",
        "https://[2606:4700:4700::1111]:9093/",
        "https://1e100.net/",
    ],
)
def test_a_plain_url_is_not(url: str) -> None:
    PUBLIC.check_url(url)


def test_http_passes_only_where_it_is_asked_for_and_that_opens_no_network() -> None:
    INSECURE.check_url("http://example.com/")
    with pytest.raises(HookRefused, match="loopback"):
        INSECURE.check_url("http://127.0.0.1/")


def test_a_network_that_is_let_in_is_all_that_is_let_in() -> None:
    guard = Guard.of(Settings(hooks_allow="10.1.0.0/16, fd00::/8,127.0.0.1"))
    for address in ("10.1.2.3", "fd12::1", "127.0.0.1", "8.8.8.8"):
        guard.check_address(address)
    for address in (
        "10.2.0.1",
        "127.0.0.2",
        "::ffff:10.1.2.3",
        "::ffff:127.0.0.1",
        "fe80::1",
        "fd00:ec2::254",
    ):
        with pytest.raises(HookRefused):
            guard.check_address(address)


def test_the_metadata_of_a_cloud_is_let_in_by_its_own_address_only() -> None:
    for allow in ("0.0.0.0/0", "169.254.0.0/16", "169.254.169.252/30"):
        with pytest.raises(HookRefused, match="metadata"):
            Guard(networks(allow)).check_address("169.254.169.254")
    Guard(networks("169.254.169.254")).check_address("169.254.169.254")


def test_where_nat64_is_let_in_the_address_behind_it_is_judged() -> None:
    guard = Guard(networks("64:ff9b::/96"))
    guard.check_address("64:ff9b::8.8.8.8")
    for hidden in ("64:ff9b::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b::10.0.0.1"):
        with pytest.raises(HookRefused):
            guard.check_address(hidden)


@pytest.mark.parametrize("text", ["10.0.0.1/8", "ten", "10.0.0.0/33", "fe80::1%eth0/64x"])
def test_a_network_that_is_none_is_told(text: str) -> None:
    with pytest.raises(SettingsError, match="EBBTIDE_HOOKS_ALLOW"):
        networks(text)


# -- at connect time


class Trap:
    """A listening socket of 127.0.0.1 that notes whether anybody connects."""

    def __enter__(self) -> Trap:
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.listening.settimeout(0.05)
        self.port: int = self.listening.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self.listening.close()

    def caught(self) -> bool:
        try:
            self.listening.accept()[0].close()
        except TimeoutError:
            return False
        return True


def post(url: str, guard: Guard, *answers: list[str]) -> tuple[Answer, Sender]:
    """What becomes of one attempt; the name resolves to ``answers``, one list a look-up."""
    looks = iter(answers)

    def look_up(_host: str, _port: int) -> list[tuple[int, str]]:
        return [(socket.AF_INET6 if ":" in each else socket.AF_INET, each) for each in next(looks)]

    async def run() -> tuple[Answer, Sender]:
        async with Sender(Target(url, timeout_s=2), guard, look_up) as sender:
            return await sender.post(b"{}", {}, lambda: 0), sender

    return asyncio.run(run())


def test_a_name_that_resolves_into_a_private_network_is_not_connected_to() -> None:
    with Trap() as trap:
        answer, _ = post(f"http://hooks.example:{trap.port}/", INSECURE, ["127.0.0.1"])
        assert not trap.caught()
    assert answer.error is not None
    assert "refused: 127.0.0.1 is loopback" in answer.error


@pytest.mark.parametrize(
    "order", [["1.1.1.1", "127.0.0.1"], ["127.0.0.1", "1.1.1.1"], ["2606:4700::1", "::1"]]
)
def test_one_private_address_among_public_ones_is_one_too_many(order: list[str]) -> None:
    with Trap() as trap:
        answer, sender = post(f"http://hooks.example:{trap.port}/", INSECURE, order)
        assert not trap.caught()
    assert answer.error is not None
    assert "refused" in answer.error
    assert sender.connected_to is None


def test_a_name_that_is_rebound_after_the_look_is_refused_by_the_socket_itself() -> None:
    """The resolver's check is deceived: it sees a public address, and the connection would go elsewhere."""
    looks = iter(["93.184.216.34", "127.0.0.1"])

    async def run(port: int) -> tuple[Answer, str | None]:
        guard = Guard(insecure=True)
        async with Sender(Target(f"http://hooks.example:{port}/", timeout_s=2), guard) as sender:
            resolver = sender._resolver

            async def resolve(host: str, port: int = 0, family: int = 0) -> list[dict[str, object]]:
                guard.check_address(next(looks))
                return [
                    {
                        "hostname": host,
                        "host": next(looks),
                        "port": port,
                        "family": socket.AF_INET,
                        "proto": 0,
                        "flags": socket.AI_NUMERICHOST,
                    }
                ]

            resolver.resolve = resolve  # type: ignore[method-assign,assignment]
            return await sender.post(b"{}", {}, lambda: 0), sender.connected_to

    with Trap() as trap:
        answer, connected = asyncio.run(run(trap.port))
        assert not trap.caught()
    assert answer.error is not None
    assert "refused: 127.0.0.1 is loopback" in answer.error
    assert connected is None


def test_a_name_without_an_address_is_a_failure_of_its_endpoint() -> None:
    answer, _ = post("http://hooks.example/", INSECURE, [])
    assert answer.error is not None
    assert answer.error.startswith("its name is not known")


def test_a_name_that_changes_between_attempts_is_judged_at_each() -> None:
    with Trap() as trap:
        looks = iter([["127.0.0.1"], ["10.0.0.1"], ["127.0.0.1"]])

        def look_up(_host: str, _port: int) -> list[tuple[int, str]]:
            return [(socket.AF_INET, each) for each in next(looks)]

        async def run() -> list[Answer]:
            target = Target(f"http://hooks.example:{trap.port}/", timeout_s=0.2)
            async with Sender(target, LOCAL, look_up) as sender:
                return [await sender.post(b"{}", {}, lambda: 0) for _ in range(3)]

        first, second, third = asyncio.run(run())
    assert first.error == third.error == "no answer within 0.2 s"
    assert second.error is not None
    assert "10.0.0.1 is private" in second.error


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::ffff:127.0.0.1]", "localhost"]
)
def test_however_loopback_is_written_nothing_connects(host: str) -> None:
    with Trap() as trap:

        async def run() -> Answer:
            target = Target(f"http://{host}:{trap.port}/", timeout_s=2)
            async with Sender(target, INSECURE) as sender:
                return await sender.post(b"{}", {}, lambda: 0)

        answer = asyncio.run(run())
        assert not trap.caught()
    assert answer.error is not None
    assert "refused" in answer.error


def test_a_literal_address_passes_no_resolver_and_is_judged_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The check of the URL is taken away: the socket's own check stands."""
    monkeypatch.setattr(Guard, "check_url", lambda self, url: None)
    with Trap() as trap:
        answer, _ = post(f"http://127.0.0.1:{trap.port}/", INSECURE)
        assert not trap.caught()
    assert answer.error is not None
    assert "127.0.0.1 is loopback" in answer.error


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with Trap() as proxy, Trap() as trap:
        for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("no_proxy", "")
        post(f"http://hooks.example:{trap.port}/", LOCAL, ["127.0.0.1"])
        assert not proxy.caught()
        assert trap.caught()


def test_a_certificate_that_nobody_vouches_for_is_not_accepted(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl makes the certificate, and is not here")
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=127.0.0.1",
    ]
    subprocess.run(
        [*made, "-keyout", "key.pem", "-out", "cert.pem"], cwd=tmp_path, check=True, capture_output=True
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")

    async def run() -> str | None:
        async def never(_reader: Any, _writer: Any) -> None:
            raise AssertionError("nobody may get as far as this")

        async with await asyncio.start_server(never, "127.0.0.1", 0, ssl=context) as server:
            port = server.sockets[0].getsockname()[1]
            async with Sender(Target(f"https://127.0.0.1:{port}/", timeout_s=5), LOCAL) as sender:
                return (await sender.post(b"{}", {}, lambda: 0)).error

    error = asyncio.run(run())
    assert error is not None
    assert "certificate is not accepted" in error
