"""What all facts have in common: the types of their fields.

Times are whole milliseconds since 1970-01-01 UTC. Amounts are decimals with four places, as text in JSON.
"""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema

Milliseconds = Annotated[int, Field(ge=0, description="ms since 1970-01-01 UTC")]
Count = Annotated[int, Field(ge=0)]
Amount = Annotated[
    Decimal,
    # Lax, because the wire has text where Python has a Decimal.
    Field(strict=False, ge=0, decimal_places=4, allow_inf_nan=False),
    PlainSerializer(lambda amount: f"{amount:.4f}", return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]+\.[0-9]{4}$"}),
]
Currency = Annotated[str, Field(pattern="^[A-Z]{3}$")]
Day = Annotated[date, Field(description="a day of the shop's calendar")]
Share = Annotated[float, Field(ge=0, le=1)]
Id32 = Annotated[str, Field(pattern="^[0-9a-f]{32}$")]
Version = Annotated[int, Field(ge=1, description="grows each time it is told")]


class Fact(BaseModel):
    """A fact as it stands on its topic; unknown fields are of a newer release."""

    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)
