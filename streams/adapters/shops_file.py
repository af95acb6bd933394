"""``shops.yaml``: what is to be known of each shop, checked entry by entry."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final
from zoneinfo import ZoneInfo

import yaml
from babel.numbers import is_currency
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from schemas.events import Id

_SHAPE: Final = "write it as: shops: [{shop_id: …, name: …, zone: Europe/London, currency: GBP}, …]"


class ShopsFileError(Exception):
    """The file cannot be used; a line for each thing that is wrong with it."""


class ShopEntry(BaseModel):
    """One shop. currency: the one it reports in; None is the one it sells most in."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    shop_id: Id
    name: Annotated[str, StringConstraints(min_length=1, max_length=256, strip_whitespace=True)]
    zone: str
    currency: Annotated[str | None, Field(pattern="^[A-Z]{3}$")] = None

    @field_validator("zone")
    @classmethod
    def _is_a_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (ValueError, OSError, KeyError):
            raise ValueError(f"{zone!r} is no IANA zone, like Europe/London") from None
        return zone

    @field_validator("currency")
    @classmethod
    def _is_a_currency(cls, currency: str | None) -> str | None:
        if currency is not None and not is_currency(currency):
            raise ValueError(f"{currency!r} is no currency of ISO 4217, like EUR")
        return currency


def read_shops(path: Path) -> list[ShopEntry]:
    """The file's shops in its order. Raises ShopsFileError, which tells everything that is wrong at once."""
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ShopsFileError(f"{path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ShopsFileError(f"{path} is not UTF-8: {exc.reason} at byte {exc.start}") from exc
    except yaml.YAMLError as exc:
        raise ShopsFileError(f"{path} is no YAML: {' '.join(str(exc).split())}") from exc
    entries = said.get("shops") if isinstance(said, dict) and said.keys() == {"shops"} else None
    if not isinstance(entries, list) or not entries:
        raise ShopsFileError(f"{path} has no list of shops; {_SHAPE}")
    shops: dict[str, ShopEntry] = {}
    wrong: list[str] = []
    for number, entry in enumerate(entries, start=1):
        place = f"{path}, entry {number}"
        try:
            shop = ShopEntry.model_validate(entry)
        except ValidationError as exc:
            named = entry.get("shop_id") if isinstance(entry, dict) else None
            place += f" ({named})" if named is not None else ""
            wrong += [f"{place}: {_sentence(dict(error))}" for error in exc.errors()]
            continue
        if shop.shop_id in shops:
            wrong.append(f"{place} ({shop.shop_id}): the same shop_id as an entry before it")
        shops.setdefault(shop.shop_id, shop)
    if wrong:
        raise ShopsFileError("\n".join(wrong))
    return list(shops.values())


def _sentence(error: dict[str, Any]) -> str:
    """What pydantic found, as a person would say it."""
    name = ".".join(map(str, error["loc"]))
    match error["type"]:
        case "missing":
            return f"{name} is missing"
        case "extra_forbidden":
            return f"{name} is nothing that is known of a shop; there are {', '.join(ShopEntry.model_fields)}"
        case "value_error":
            return f"{name}: {error['ctx']['error']}"
        case "string_type":
            return f"{name}: {error['input']!r} is no text; put it in quotes"
        case "string_pattern_mismatch":
            return f"{name}: {error['input']!r} is not three capital letters, like EUR"
        case "model_type":
            return f"{error['input']!r} is no shop; {_SHAPE}"
    return f"{name}: {error['msg']}"
