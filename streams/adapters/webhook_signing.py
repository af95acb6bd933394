"""Signatures of what webhooks are sent, by the Standard Webhooks specification 1.0.0."""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook

#: Headers of these names are ours alone.
OURS: Final = ("webhook-id", "webhook-timestamp", "webhook-signature")


class SecretError(ValueError):
    """A secret that cannot be signed with; the text does not have it."""


def signed(secrets: Sequence[str], webhook_id: str, now_ms: int, body: bytes) -> dict[str, str]:
    """The headers of one attempt at ``now_ms``: id, time in s, and a signature by each of ``secrets``.

    Several are there while a secret is replaced: the receiver takes whichever it knows. Without any
    secret there is no signature. ``body`` is UTF-8. Raises SecretError.
    """
    # The library signs whole seconds, and receivers compare with these.
    at = datetime.fromtimestamp(now_ms // 1000, UTC)
    headers = {"webhook-id": webhook_id, "webhook-timestamp": str(now_ms // 1000)}
    if secrets:
        text = body.decode()
        headers["webhook-signature"] = " ".join(
            _webhook(secret).sign(webhook_id, at, text) for secret in secrets
        )
    return headers


def _webhook(secret: str) -> Webhook:
    try:
        return Webhook(secret)
    except (binascii.Error, EmptyWebhookSecretError, ValueError, RuntimeError):
        raise SecretError("a secret is no whsec_ followed by Base64") from None
