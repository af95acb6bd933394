"""What a reader of the page has chosen, as its address says it: every view of it is a link that can be
sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Literal, get_args
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

Lang = Literal["en", "zh"]
Theme = Literal["auto", "light", "dark"]

LANGS: Final[tuple[Lang, ...]] = get_args(Lang)
THEMES: Final[tuple[Theme, ...]] = get_args(Theme)
#: Days that a view may span.
SPANS: Final = (1, 7, 14, 30, 90)
_DAY_MS: Final = 86_400_000
#: Rows of a curve, about: as many as a screen has room for.
_POINTS: Final = 200
_BUCKETS_S: Final = (60, 300, 600, 900, 1_800, 3_600, 7_200, 14_400, 21_600, 43_200)
#: Longer than any id that the contract takes is no id.
_LONGEST: Final = 512


@dataclass(frozen=True, slots=True)
class Selection:
    """lang and page are the path; the others are parameters, left out where they are as here.

    shop: one, or all if empty. days: the span, one of SPANS. item, customer, segment: what is looked at
    closely. sort: the column that tables go by, with ``-`` before it from the greatest down; empty: as they
    come.
    """

    lang: Lang
    page: str
    shop: str = ""
    days: int = 7
    theme: Theme = "auto"
    item: str = ""
    customer: str = ""
    segment: str = ""
    sort: str = ""

    @classmethod
    def read(cls, lang: Lang, page: str, query: Mapping[str, str]) -> Selection:
        """What the address says; what makes no sense in it is as if it were not said."""
        said: dict[str, Any] = {
            name: query[name][:_LONGEST]
            for name in ("shop", "item", "customer", "segment", "sort")
            if name in query
        }
        if (days := query.get("days", "")).isdecimal() and int(days[:4]) in SPANS:
            said["days"] = int(days)
        if (theme := query.get("theme")) in THEMES:
            said["theme"] = theme
        return cls(lang, page, **said)

    def link(self, **changes: Any) -> str:
        """The address of this view with ``changes``. Another page forgets what was looked at closely."""
        if "page" in changes:
            changes = {"item": "", "customer": "", "segment": "", "sort": ""} | changes
        return replace(self, **changes).address()

    def address(self) -> str:
        """Path and parameters."""
        said = {
            f.name: getattr(self, f.name)
            for f in fields(self)
            if f.name not in ("lang", "page") and getattr(self, f.name) != f.default
        }
        return f"/{self.lang}/{self.page}" + (f"?{urlencode(said)}" if said else "")


@dataclass(frozen=True, slots=True)
class View:
    """A selection at a moment: up to ``reached`` (ms since 1970 UTC) everything has been read. zone: IANA."""

    selection: Selection
    reached: int
    zone: str

    @property
    def until(self) -> date:
        """The last day of the span, of the zone's calendar."""
        return datetime.fromtimestamp(self.reached / 1000, UTC).astimezone(ZoneInfo(self.zone)).date()

    @property
    def bucket_s(self) -> int:
        """Seconds of one point of a curve."""
        wanted = self.selection.days * 86_400 / _POINTS
        return next((bucket for bucket in _BUCKETS_S if bucket >= wanted), _BUCKETS_S[-1])

    def parameters(self) -> dict[str, str]:
        """All that a question may ask for, as ClickHouse reads it. Spans of time end with the minute
        reached."""
        chosen = self.selection
        # Sessions of an unfinished minute are still to come, and answers of one minute can be kept for it.
        to_ms = -(-self.reached // 60_000) * 60_000
        return {
            "shop": chosen.shop,
            "item": chosen.item,
            "customer": chosen.customer,
            "segment": chosen.segment,
            "from_ms": str(to_ms - chosen.days * _DAY_MS),
            "to_ms": str(to_ms),
            "bucket_s": str(self.bucket_s),
            "since": (self.until - timedelta(chosen.days - 1)).isoformat(),
            "until": self.until.isoformat(),
            "as_of": self.until.isoformat(),
            "days": str(chosen.days),
            "zone": self.zone,
            "guests": "",
            "category": "",
            "by_item": "true",
            "by_day": "false",
            "min_visitors": "10",
            "limit": "100",
        }
