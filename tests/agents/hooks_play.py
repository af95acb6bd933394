"""The hooks agent over a log in memory that may be cut anywhere, with a clock that is set by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from schemas.alerts import AlertFact
from streams.adapters.hook_facts import Request, Told, encode_request
from streams.agents.hook_loop import Hooks, Outgoing
from streams.domain.deliveries import Answer, Delivery
from streams.domain.erasure import digest
from streams.domain.hook_state import is_stale
from tests.builders import NOON

NEVER: Final = 1 << 60
MINUTE: Final = 60_000
HOUR: Final = 60 * MINUTE
OK: Final = Answer(200)
DOWN: Final = Answer(None, "it cannot be connected to: Connection refused")
BROKEN: Final = Answer(500, "answered 500")


class Crash(Exception):
    """The process ended here."""


@dataclass
class Record:
    offset: int
    key: bytes | None
    value: bytes | None
    timestamp: int


@dataclass
class Log:
    """What the broker has: rows, and records by topic; after ``fuse`` more acknowledgements it is cut.

    A record that is being sent when the fuse blows is there, or it is not: both happen in turn.
    """

    rows: list[tuple[bytes, bytes | None]] = field(default_factory=list)
    sent: dict[str, list[tuple[bytes | None, bytes | None]]] = field(default_factory=dict)
    fuse: int = NEVER

    def _burn(self) -> None:
        self.fuse -= 1
        if self.fuse < 0:
            raise Crash

    async def send(self, topic: str, partition: int, records: Sequence[Outgoing]) -> None:
        await asyncio.sleep(0)
        self._burn()
        self.sent.setdefault(topic, []).extend((key, value) for key, value, _ in records)
        self._burn()

    def items(self, _partition: int) -> Iterator[tuple[bytes, bytes]]:
        state: dict[bytes, bytes] = {}
        for key, value in self.rows:
            if value is None:
                state.pop(key, None)
            elif key not in state or not is_stale(state[key], value):
                state[key] = value
        return iter(state.items())

    async def write(self, partition: int, changes: Mapping[bytes, bytes | None]) -> None:
        await asyncio.sleep(0)
        self._burn()
        self.rows += changes.items()
        self._burn()

    def deliveries(self) -> dict[str, dict[str, Any]]:
        """The facts told of deliveries, the highest version of each."""
        found: dict[str, dict[str, Any]] = {}
        for _, value in self.sent.get("deliveries", ()):
            fact = json.loads(value or b"")
            if fact["version"] >= found.get(fact["delivery_id"], fact)["version"]:
                found[fact["delivery_id"]] = fact
        return found


@dataclass
class Receiver:
    """An endpoint that answers as it is told; what it accepted stays with it through all lives."""

    kind: str = "webhook"
    answer: Callable[[Delivery, int], Answer] = lambda _delivery, _now: OK
    clock: Callable[[], int] = lambda: 0
    #: (when, webhook_id, answer)
    attempts: list[tuple[int, str, Answer]] = field(default_factory=list)
    gate: asyncio.Event | None = None

    async def attempt(self, delivery: Delivery) -> Answer:
        answer = self.answer(delivery, self.clock())
        self.attempts.append((self.clock(), delivery.webhook_id, answer))
        if self.gate is not None:
            await self.gate.wait()
        return answer

    async def close(self) -> None:
        pass

    @property
    def accepted(self) -> list[str]:
        return [name for _, name, answer in self.attempts if answer.ok]

    def times(self, webhook_id: str) -> list[int]:
        return [at for at, name, _ in self.attempts if name == webhook_id]


@dataclass
class Routes:
    """Everything to everybody, unless said otherwise; quiet while ``quiet`` says until when."""

    names: tuple[str, ...]
    quiet: Callable[[int], int | None] = lambda _now: None
    unread: frozenset[str] = frozenset()

    def reads(self, topic: str) -> bool:
        return topic not in self.unread

    def endpoints_for(self, fact: Told) -> tuple[str, ...]:
        return self.names

    def quiet_until(self, alert: AlertFact, zone: str | None, now: int) -> int | None:
        return self.quiet(now)


class World:
    """Receivers, a log and a clock; ``live`` is one life of a worker that owns partition 0."""

    def __init__(self, at: int = NOON, **receivers: Any) -> None:
        self.now = at
        self.log = Log()
        self.receivers = receivers
        self.routes = Routes(tuple(receivers))
        self.hooks: Hooks
        self.failure: BaseException | None = None
        for receiver in receivers.values():
            if isinstance(receiver, Receiver):
                receiver.clock = self.clock
        self._tasks: list[asyncio.Task[None]] = []

    def clock(self) -> int:
        return self.now

    async def _fail(self, exc: BaseException) -> None:
        self.failure = exc

    def begin(self) -> None:
        """A worker starts, and owns the partition."""
        self.failure = None
        self.hooks = Hooks(
            self.routes, self.receivers, self.log, self.log.send, self.clock, self._fail, partitions=1
        )
        self.hooks.assign(0)
        self._tasks = [asyncio.create_task(courier.run()) for courier in self.hooks.couriers.values()]

    async def end(self) -> None:
        """It is killed."""
        self.hooks.revoke(0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)

    async def take(self, *bundles: tuple[str, Sequence[Record]]) -> None:
        await self.hooks.handle(0, bundles)

    async def rest(self) -> None:
        """Return when nothing moves that does not wait for the clock or for a gate."""
        for courier in self.hooks.couriers.values():
            courier.nudge()
        quiet = 0
        while quiet < 12:
            await asyncio.sleep(0)
            if self.failure is not None:
                raise self.failure
            gates = [r.gate for r in self.receivers.values() if isinstance(r, Receiver) and r.gate]
            blocked = not all(gate.is_set() for gate in gates)
            busy = any(c.under_way for c in self.hooks.couriers.values()) and not blocked
            quiet = 0 if busy else quiet + 1

    async def until(self, at: int, most: int = 10_000) -> None:
        """Let time pass, from one moment at which something is due to the next."""
        await self.rest()
        for _ in range(most):
            due = [
                d.next_at for p in self.hooks._partitions.values() for d in p.deliveries.values() if d.next_at
            ]
            due += [t for p in self.hooks._partitions.values() if (t := p.next_timer()) is not None]
            moment = min((each for each in due if each > self.now), default=at)
            self.now = min(moment, at)
            await self.hooks.tend()
            await self.rest()
            if self.now >= at:
                return
        raise AssertionError("time did not pass")


def alert(number: int = 1, version: int = 1, **fields: Any) -> dict[str, Any]:
    """An alert of shop s1 that fires."""
    fact = {
        "alert_id": f"{number:032x}",
        "kind": "loss",
        "shop_id": "s1",
        "scope": "shop",
        "scope_value": "",
        "signal": "loss_rate",
        "status": "firing",
        "severity": "warning",
        "rule": "default",
        "began_at": NOON - 120_000,
        "at": NOON,
        "resolved_at": None,
        "observed": 0.75,
        "expected": 0.5,
        "band": 0.6,
        "sessions": 120,
        "lost": 90,
        "value_at_risk": {"CNY": "1200.0000"},
        "contributors": [
            {"dimension": "item", "value": "i1", "observed": 30.0, "expected": 10.0, "share": 0.6667}
        ],
        "held_by": [],
        "summary": "shop s1 loses 75 % of its sessions, 50 % expected",
        "version": version,
        "is_deleted": False,
        **fields,
    }
    return json.loads(AlertFact.model_validate_json(json.dumps(fact)).model_dump_json())


def segment(customer: str = "c1", version: int = 1, **fields: Any) -> dict[str, Any]:
    """A customer who enters a segment."""
    return {
        "segment": "lapsing",
        "shop_id": "s1",
        "customer_id": customer,
        "is_member": True,
        "at": NOON,
        "cause": "time",
        "rules_version": 1,
        "version": version,
        "is_deleted": False,
        **fields,
    }


def records(facts: Sequence[Mapping[str, Any]], first: int = 0, at: int = NOON) -> list[Record]:
    keys = [str(fact.get("customer_id", fact.get("shop_id", ""))).encode() for fact in facts]
    return [
        Record(first + n, key, msgspec.json.encode(fact), at)
        for n, (key, fact) in enumerate(zip(keys, facts, strict=True))
    ]


def play(story: Callable[[World], Awaitable[None]], **receivers: Receiver) -> World:
    """The world after ``story``, in one life unless the story ends it."""
    world = World(**(receivers or {"a": Receiver()}))

    async def run() -> None:
        world.begin()
        await story(world)
        await world.end()

    asyncio.run(run())
    return world


def key(number: int, version: int = 1) -> str:
    return f"{number:032x}-{version}"


def statuses(world: World) -> dict[str, str]:
    return {fact["webhook_id"]: fact["status"] for fact in world.log.deliveries().values()}


def erased(customer: str, at: int) -> Record:
    fact = {"customer_digest": digest(customer.encode()).hex(), "erased_at": at, "at": at}
    return Record(0, b"", json.dumps(fact).encode(), at)


def asked(offset: int, do: Any, at: int, **fields: str) -> Record:
    return Record(offset, *encode_request(Request(do, at, **fields)), at)
