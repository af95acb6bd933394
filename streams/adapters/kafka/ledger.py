"""What was delivered of one partition, what of it was done, and so what may be committed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Range:
    first: int
    last: int
    #: The position after the range: ``last + 1``, or beyond offsets that hold nothing to read.
    after: int
    acked: bool = False


@dataclass(slots=True)
class Ledger:
    """The bundles of one partition since its last seek, in offset order.

    A commit covers leading acked bundles only, so no acknowledgement can carry the commit past a bundle
    that is still in work.
    """

    #: The next offset expected; everything below was delivered.
    read: int
    #: The next offset that may be committed; None until something was done.
    committable: int | None = None
    committed: int | None = None
    #: Bundles delivered that nobody has begun to work on.
    queued: int = 0
    _ranges: deque[_Range] = field(default_factory=deque)

    def deliver(self, first: int, last: int, after: int) -> None:
        """A bundle of offsets ``first`` to ``last`` goes out; the position is ``after`` then."""
        if first < self.read or last < first or after <= last:
            raise ValueError(f"bundle {first}..{last} (then {after}) cannot follow position {self.read}")
        self._ranges.append(_Range(first, last, after))
        self.queued += 1
        self.read = after

    def skip(self, after: int) -> None:
        """The position moved to ``after`` over offsets that hold nothing to read."""
        if after <= self.read:
            return
        self.read = after
        if self._ranges:
            self._ranges[-1].after = after
        else:
            self.committable = after

    def ack(self, last: int) -> bool:
        """The bundle that ends at ``last`` is done; False if there is none such in work."""
        for entry in self._ranges:
            if entry.last == last and not entry.acked:
                entry.acked = True
                break
        else:
            return False
        while self._ranges and self._ranges[0].acked:
            self.committable = self._ranges.popleft().after
        return True

    @property
    def settled(self) -> bool:
        """Nothing delivered is still in work."""
        return not self._ranges

    @property
    def worked_off(self) -> int:
        """The first offset that is not done."""
        return self._ranges[0].first if self._ranges else self.read

    @property
    def due(self) -> int | None:
        """The offset to commit, None if there is nothing new."""
        return self.committable if self.committable != self.committed else None
