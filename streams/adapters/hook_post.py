"""One endpoint of alerts.yaml as something to post to: what it is sent, signed, over a guarded connection."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Final

from streams.adapters.hook_payloads import Kind, NoPayload, payload
from streams.adapters.webhook import Lookup, Sender, Target, lookup
from streams.adapters.webhook_guard import Guard
from streams.adapters.webhook_signing import SecretError, signed
from streams.domain.deliveries import Answer, Delivery

#: Endpoints of these keep one state of an alert: an older revision would bring back what is over.
ONE_STATE: Final = frozenset({"alertmanager", "alertmanager-webhook", "slack"})


class Post:
    """Makes attempts. secrets: each signs, the current one first; clock: wall clock in ms."""

    def __init__(
        self,
        kind: Kind,
        target: Target,
        guard: Guard,
        clock: Callable[[], int],
        look_up: Lookup = lookup,
    ) -> None:
        self.kind = kind
        self._secrets = target.secrets
        self._clock = clock
        self._sender = Sender(target, guard, look_up)

    @property
    def connected_to(self) -> str | None:
        """The address of the last attempt, if it got as far as that."""
        return self._sender.connected_to

    async def attempt(self, delivery: Delivery) -> Answer:
        """One attempt; never raises, but for being cancelled."""
        try:
            body, path = payload(self.kind, delivery.topic, json.loads(delivery.fact))
            headers = signed(self._secrets, delivery.webhook_id, self._clock(), body)
        except (NoPayload, SecretError) as exc:
            return Answer(None, str(exc), final=isinstance(exc, NoPayload))
        return await self._sender.post(body, headers, self._clock, path)

    async def close(self) -> None:
        await self._sender.close()
