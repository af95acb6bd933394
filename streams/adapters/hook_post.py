"""One endpoint of alerts.yaml as something to post to: what it is sent, signed, over a guarded connection."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Final

from streams.adapters.hook_payloads import Kind, NoPayload, payload
from streams.adapters.webhook import Lookup, Sender, Target, lookup
from streams.adapters.webhook_guard import Guard, HookRefused
from streams.adapters.webhook_signing import SecretError, signed
from streams.domain.alert_rules import Endpoint
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
        except SecretError as exc:
            return Answer(None, str(exc))
        except NoPayload as exc:
            return Answer(None, str(exc), final=True)
        except (ValueError, KeyError, TypeError, ArithmeticError, OSError) as exc:
            # A fact that passed its contract and cannot be said all the same: it must not hold up the others.
            return Answer(None, f"it cannot be put into words: {type(exc).__name__}", final=True)
        return await self._sender.post(body, headers, self._clock, path)

    async def close(self) -> None:
        await self._sender.close()


def post_to(endpoint: Endpoint, guard: Guard, clock: Callable[[], int]) -> Post:
    """What makes attempts at an endpoint of alerts.yaml."""
    target = Target(endpoint.url, dict(endpoint.headers), endpoint.timeout_s, endpoint.secrets)
    return Post(endpoint.kind, target, guard, clock)


def problems(endpoint: Endpoint, guard: Guard) -> list[str]:
    """What keeps an endpoint from being sent to as it should, one line each, before anything is sent."""
    found = []
    try:
        guard.check_url(endpoint.url)
    except HookRefused as exc:
        found.append(f"nothing is sent to it: {exc}")
    try:
        signed(endpoint.secrets, "id", 0, b"")
    except SecretError as exc:
        found.append(f"nothing is sent to it: {exc}")
    if endpoint.kind == "webhook" and not endpoint.secrets:
        found.append("it has no secret, so what it is sent is not signed")
    return found


def now_ms() -> int:
    """The wall clock, in ms."""
    return time.time_ns() // 1_000_000
