"""How to speak to the broker: one description in Settings, the dialects of its clients here."""

from __future__ import annotations

import ssl
from typing import Any

from faust.auth import SASLCredentials, SSLCredentials

from streams.settings import Settings, SettingsError


def _context(settings: Settings) -> ssl.SSLContext | None:
    if settings.security_protocol not in {"SSL", "SASL_SSL"}:
        return None
    try:
        return ssl.create_default_context(cafile=settings.ssl_cafile or None)
    except (OSError, ssl.SSLError) as exc:
        raise SettingsError(f"EBBTIDE_SSL_CAFILE={settings.ssl_cafile!r} cannot be used: {exc}") from exc


def _check(settings: Settings) -> None:
    """Refuse what would quietly mean less than it says."""
    sasl = settings.security_protocol.startswith("SASL_")
    if sasl and not (settings.sasl_username and settings.sasl_password):
        raise SettingsError(
            f"{settings.security_protocol} needs EBBTIDE_SASL_USERNAME and EBBTIDE_SASL_PASSWORD"
        )
    if not sasl and (settings.sasl_username or settings.sasl_password):
        raise SettingsError(
            f"a SASL user or password is set, but EBBTIDE_SECURITY_PROTOCOL={settings.security_protocol}"
            " would not use it; say SASL_SSL"
        )
    if settings.security_protocol == "SASL_PLAINTEXT" and not settings.allow_cleartext_sasl:
        raise SettingsError("SASL_PLAINTEXT sends the password unencrypted; use SASL_SSL")


def aiokafka_kwargs(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of any aiokafka client: bootstrap servers and security.

    Raises SettingsError, one sentence, for a combination that is incomplete or unsafe.
    """
    _check(settings)
    kwargs: dict[str, Any] = {
        "bootstrap_servers": settings.kafka,
        "security_protocol": settings.security_protocol,
    }
    context = _context(settings)
    if context is not None:
        kwargs["ssl_context"] = context
    if settings.security_protocol.startswith("SASL_"):
        kwargs["sasl_mechanism"] = settings.sasl_mechanism
        kwargs["sasl_plain_username"] = settings.sasl_username
        kwargs["sasl_plain_password"] = settings.sasl_password
    return kwargs


def kafka_python_kwargs(settings: Settings) -> dict[str, Any]:
    """Keyword arguments of any kafka-python client; otherwise as ``aiokafka_kwargs``."""
    kwargs = aiokafka_kwargs(settings)
    kwargs["bootstrap_servers"] = [address.strip() for address in settings.kafka.split(",")]
    return kwargs


def faust_credentials(settings: Settings) -> SASLCredentials | SSLCredentials | None:
    """``broker_credentials`` of a Faust app, None for plaintext.

    Faust takes SASL credentials without an SSL context for SASL_PLAINTEXT; here that needs saying so.
    """
    _check(settings)
    context = _context(settings)
    if settings.security_protocol.startswith("SASL_"):
        return SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            ssl_context=context,
            mechanism=settings.sasl_mechanism,
        )
    return SSLCredentials(context=context) if context is not None else None
