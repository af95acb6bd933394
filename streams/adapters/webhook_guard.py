"""Where hooks may be sent: the URL as it is written, and each address as it is connected to.

A name may resolve to anything, and to something else a moment later; so what counts is the address of the
very socket that is connected. Nothing but public unicast addresses passes, and the networks that
EBBTIDE_HOOKS_ALLOW names. Sources: IANA's special-purpose address registries; the port list of the Fetch
standard, section 2.9.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final
from urllib.parse import SplitResult, urlsplit

from streams.settings import Settings, SettingsError

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

_LONGEST_URL: Final = 2048
_LONGEST_NAME: Final = 253
_LABEL: Final = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")

_NOT_PUBLIC_4: Final = [
    (IPv4Network(text), why)
    for text, why in (
        ("0.0.0.0/8", "this host"),
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "shared by a carrier's customers"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local, where clouds keep their metadata"),
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved for protocols"),
        ("192.0.2.0/24", "for documentation"),
        ("192.88.99.0/24", "a 6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "for benchmarks"),
        ("198.51.100.0/24", "for documentation"),
        ("203.0.113.0/24", "for documentation"),
        ("224.0.0.0/4", "multicast"),
        ("240.0.0.0/4", "reserved"),
    )
]
#: Of IPv6 only this is public at all; then less what follows.
_GLOBAL_6: Final = IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = [
    (IPv6Network(text), why)
    for text, why in (
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::ffff:0:0/96", "an IPv4 address in disguise"),
        ("::/96", "an IPv4 address in disguise"),
        ("::ffff:0:0:0/96", "an IPv4 address in disguise"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discarded"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved for protocols"),
        ("2001:db8::/32", "for documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "for documentation"),
        ("5f00::/16", "segment routing"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
    )
]
#: Prefixes whose last 32 bits are an IPv4 address: where one is allowed, that address is judged as well.
_DISGUISES: Final = (IPv6Network("::ffff:0:0/96"), IPv6Network("::/96"), IPv6Network("64:ff9b::/96"))
#: Answered by the cloud that a machine runs in, whatever range they are of: allowed one by one only.
_METADATA: Final = frozenset(
    map(
        ip_address,
        (
            "169.254.169.254",
            "168.63.129.16",
            "100.100.100.200",
            "192.0.0.192",
            "fd00:ec2::254",
            "fd20:ce::254",
        ),
    )
)
#: Ports that speak something else, as browsers refuse them.
_BAD_PORTS: Final = frozenset(
    (
        *(
            0,
            1,
            7,
            9,
            11,
            13,
            15,
            17,
            19,
            20,
            21,
            22,
            23,
            25,
            37,
            42,
            43,
            53,
            69,
            77,
            79,
            87,
            95,
            101,
            102,
            103,
        ),
        *(104, 109, 110, 111, 113, 115, 117, 119, 123, 135, 137, 139, 143, 161, 179, 389, 427, 465, 512, 513),
        *(
            514,
            515,
            526,
            530,
            531,
            532,
            540,
            548,
            554,
            556,
            563,
            587,
            601,
            636,
            989,
            990,
            993,
            995,
            1719,
            1720,
        ),
        *(
            1723,
            2049,
            3659,
            4045,
            4190,
            5060,
            5061,
            6000,
            6566,
            6665,
            6666,
            6667,
            6668,
            6669,
            6679,
            6697,
            10080,
        ),
    )
)


class HookRefused(OSError):
    """A URL or an address that hooks are not sent to; the text is one line, without the URL's path."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Judges URLs and addresses.

    allowed: networks beside the public ones. insecure: ``http`` passes as well as ``https``.
    """

    allowed: tuple[Network, ...] = ()
    insecure: bool = False

    @classmethod
    def of(cls, settings: Settings) -> Guard:
        """The guard that the settings ask for; SettingsError if a network is none."""
        return cls(networks(settings.hooks_allow), settings.hooks_insecure)

    def check_url(self, url: str) -> None:
        """Raise HookRefused unless ``url`` is plain: a scheme, a host, a port and the rest, no puzzle.

        A host that is an address is judged as one.
        """
        host = self._plain(url).hostname or ""
        if (literal := _literal(host)) is not None:
            self.check_address(literal)

    def _plain(self, url: str) -> SplitResult:
        if len(url) > _LONGEST_URL:
            raise HookRefused(f"a URL of more than {_LONGEST_URL} characters")
        if not all("!" <= character <= "~" for character in url) or "\\" in url:
            raise HookRefused("a URL with blanks, backslashes or other than ASCII; write names as xn--…")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise HookRefused(f"no URL: {_without(url, str(exc))}") from None
        if parts.scheme not in ("https", "http"):
            raise HookRefused(f"the scheme {parts.scheme[:20]!r} is not https")
        if parts.scheme == "http" and not self.insecure:
            raise HookRefused("http is for development: use https, or set EBBTIDE_HOOKS_INSECURE=1")
        if "@" in parts.netloc:
            raise HookRefused("a user or password in a URL; put it into a header of the endpoint")
        if "#" in url:
            raise HookRefused("a fragment in a URL, which is never sent")
        if not parts.hostname:
            raise HookRefused("a URL without a host")
        # An empty port, as in host:/ , is one that parsers disagree about.
        if (port is not None and port in _BAD_PORTS) or parts.netloc.endswith(":"):
            raise HookRefused(f"port {port} is not one for webhooks")
        _check_host(parts.netloc, parts.hostname)
        return parts

    def check_address(self, text: str) -> None:
        """Raise HookRefused unless hooks may be sent to the address ``text``."""
        try:
            address = ip_address(text)
        except ValueError:
            raise HookRefused(f"{text[:60]!r} is no address") from None
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            raise HookRefused(f"{address} has a zone")
        if address in _METADATA:
            if not any(network.num_addresses == 1 and address in network for network in self.allowed):
                raise HookRefused(f"{address} is the metadata service of a cloud")
            return
        if any(address in network for network in self.allowed):
            hidden = _hidden(address)
            if hidden is not None:
                self.check_address(hidden)
            return
        why = _not_public(address)
        if why is not None:
            raise HookRefused(f"{address} is {why}; EBBTIDE_HOOKS_ALLOW can let networks in")


def networks(text: str) -> tuple[Network, ...]:
    """The networks of ``10.1.0.0/16, fd00::/8``; SettingsError."""
    try:
        return tuple(ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as exc:
        raise SettingsError(f"EBBTIDE_HOOKS_ALLOW={text!r}: {exc}") from None


def _check_host(netloc: str, host: str) -> None:
    if netloc.startswith("["):
        if "%" in host:
            raise HookRefused("an address with a zone")
        return
    if "%" in host:
        raise HookRefused("a host with percent signs")
    if host.endswith("."):
        raise HookRefused("a host with a dot at its end")
    labels = host.lower().split(".")
    if len(host) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, labels)):
        raise HookRefused("a host that is no name of the domain name system")
    # What ends in a number is read as an address by some: 2130706433, 0x7f.1, 0177.0.0.1, 127.1.
    if _NUMBER.fullmatch(labels[-1]):
        try:
            IPv4Address(host)
        except ValueError:
            raise HookRefused("an address that is not written as four plain decimal numbers") from None


def _literal(host: str) -> str | None:
    try:
        return str(ip_address(host))
    except ValueError:
        return None


def _hidden(address: Address) -> str | None:
    if isinstance(address, IPv6Address) and any(address in network for network in _DISGUISES):
        # :: and ::1 are themselves.
        return str(IPv4Address(int(address) & 0xFFFF_FFFF)) if int(address) > 1 else None
    return None


def _not_public(address: Address) -> str | None:
    """Why it is not; None if it is."""
    ranges: Sequence[tuple[Network, str]] = (
        _NOT_PUBLIC_4 if isinstance(address, IPv4Address) else _NOT_PUBLIC_6
    )
    for network, why in ranges:
        if address in network:
            return why
    if isinstance(address, IPv6Address):
        if address not in _GLOBAL_6:
            return "not public"
        if (int(address) >> 32) & 0xFDFF_FFFF == 0x0000_5EFE:
            return "ISATAP"
    return None


def _without(url: str, text: str) -> str:
    return text.replace(url, "…")
