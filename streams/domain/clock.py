"""Event time of one partition: how far the world is known, and who is due because of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush

#: (topic index, when the tick was received) -> whether everything the topic held by then has been read.
CaughtUp = Callable[[int, float], bool]

UNKNOWN = -1


class PartitionClock:
    """The watermark of one partition: the minimum over its input topics of each topic's time.

    A topic's time is the highest event time seen in it; or a tick's time, once everything the topic held
    when the tick came has been read: an idle topic does not hold the others back, a lagging one does.
    The watermark never goes backwards.

    A topic that has had nothing at all is like one that lags until a tick says otherwise: what it holds may
    be as old as anything. A worker that starts beside a replay finds its topics in any order.
    """

    #: Ticks kept while a topic is behind. When it has caught up it wants the newest, so older ones may go.
    MOST_TICKS = 64

    __slots__ = ("_ticks", "times", "watermark")

    def __init__(self, topics: int) -> None:
        self.times = [UNKNOWN] * topics
        self.watermark = UNKNOWN
        self._ticks: list[tuple[float, int]] = []

    def observe(self, topic: int, t: int) -> None:
        """An accepted event of ``topic`` is stamped ``t`` ms."""
        if t > self.times[topic]:
            self.times[topic] = t

    def tick(self, at: int, received: float) -> None:
        """A tick says that it is ``at`` ms; ``received`` is on the clock that ``CaughtUp`` compares with."""
        self._ticks.append((received, at))
        if len(self._ticks) > self.MOST_TICKS:
            # Every second one: what is left still spans the whole wait.
            del self._ticks[1:-1:2]

    @property
    def waits(self) -> bool:
        """Whether a tick has come that does not hold yet, for want of what came before it."""
        return bool(self._ticks)

    def advance(self, caught_up: CaughtUp) -> int:
        """Apply the ticks that hold by now, and return the watermark in ms (UNKNOWN before there is one)."""
        if self._ticks:
            oldest_needed = len(self._ticks)
            for topic, time in enumerate(self.times):
                for i in range(len(self._ticks) - 1, -1, -1):
                    received, at = self._ticks[i]
                    if at <= time or caught_up(topic, received):
                        self.observe(topic, at)
                        oldest_needed = min(oldest_needed, i + 1)
                        break
                else:
                    oldest_needed = 0
            # The newest tick that every topic has passed settles all before it.
            del self._ticks[:oldest_needed]
        self.watermark = max(self.watermark, min(self.times))
        return self.watermark


class Deadlines:
    """When which key is due, to a granule of event time; several deadlines of one key may collapse into one.

    A due key is only a hint: the caller looks at the key's real deadline and puts it back if it has moved. So
    a deadline that moves later, the common case, costs nothing here.
    """

    __slots__ = ("_buckets", "_granule", "_order")

    def __init__(self, granule: int) -> None:
        self._granule = granule
        self._buckets: dict[int, set[bytes]] = {}
        self._order: list[int] = []

    def __len__(self) -> int:
        return sum(map(len, self._buckets.values()))

    def add(self, key: bytes, at: int) -> None:
        """``key`` is due when the watermark reaches ``at`` ms; found at most one granule after it."""
        bucket = -(-at // self._granule)
        keys = self._buckets.get(bucket)
        if keys is None:
            self._buckets[bucket] = {key}
            heappush(self._order, bucket)
        else:
            keys.add(key)

    def next(self) -> int | None:
        """The earliest granule at which somebody may be due; None if nobody ever is."""
        return self._order[0] * self._granule if self._order else None

    def due(self, watermark: int, limit: int) -> Iterator[bytes]:
        """Take out at most ``limit`` keys whose granule lies at or before ``watermark``, earliest first."""
        while self._order and self._order[0] * self._granule <= watermark:
            keys = self._buckets[self._order[0]]
            while keys and limit > 0:
                limit -= 1
                yield keys.pop()
            if keys:
                return
            del self._buckets[heappop(self._order)]
