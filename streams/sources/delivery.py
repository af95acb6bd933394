"""The same records, delivered otherwise: in another order, or some of them twice."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Iterator

from streams.sources.record import SourceRecord
from streams.sources.replayer import Source


class Shuffled:
    """All records of the source in an order that only ``seed`` decides; holds them all in memory."""

    def __init__(self, source: Source, seed: int) -> None:
        self.fraction = 0.0
        self._source = source
        self._seed = seed

    def __iter__(self) -> Iterator[SourceRecord]:
        records = list(self._source)
        random.Random(self._seed).shuffle(records)
        for count, record in enumerate(records, 1):
            self.fraction = count / len(records)
            yield record


class Redelivered:
    """Each ``every``-th record comes a second time, ``after`` records later (or at the end)."""

    def __init__(self, source: Source, every: int, after: int = 1_000) -> None:
        if every < 1:
            raise ValueError("every must be at least 1")
        self._source = source
        self._every = every
        self._after = after

    @property
    def fraction(self) -> float:
        return self._source.fraction

    def __iter__(self) -> Iterator[SourceRecord]:
        again: deque[tuple[int, SourceRecord]] = deque()
        for count, record in enumerate(self._source, 1):
            yield record
            if count % self._every == 0:
                again.append((count + self._after, record))
            while again and again[0][0] <= count:
                yield again.popleft()[1]
        yield from (record for _, record in again)
