"""What the API accepts of curators, checked before it comes near the catalogue."""

import datetime
import re
from typing import Annotated, Literal

from django.core.exceptions import ValidationError
from django.core.validators import URLValidator
from ninja import Field
from pydantic import AfterValidator, StringConstraints, field_validator

from catalog.models import Claim, Link
from config.rest import Change, Line, Prose
from config.text import plain_link

DATE = re.compile(r"\d{4}(-\d\d){0,2}")


def _web_address(text: str) -> str:
    text = plain_link(text)
    try:
        URLValidator(schemes=["http", "https"])(text)
    except ValidationError:
        raise ValueError("expected an address that begins with http:// or https://") from None
    return text


def read_date(text: str) -> tuple[datetime.date, str]:
    """A date as far as it is known, and how far: 2023-09-29, 2023-10 or 2022."""
    if not DATE.fullmatch(text):
        raise ValueError("expected YYYY, YYYY-MM or YYYY-MM-DD")
    parts = [int(part) for part in text.split("-")]
    return datetime.date(*(parts + [1, 1])[:3]), ("year", "month", "day")[len(parts) - 1]


def _date(text: str) -> str:
    read_date(text)
    return text


MONTH = r"^\d{4}-(0[1-9]|1[0-2])$"
Month = Annotated[str, StringConstraints(pattern=MONTH)]


Url = Annotated[Line, StringConstraints(max_length=400), AfterValidator(_web_address)]
Title = Annotated[Line, StringConstraints(min_length=1, max_length=400)]
Tag = Annotated[Line, StringConstraints(max_length=120)]
Text = Annotated[Prose, StringConstraints(max_length=4000)]
Statement = Annotated[Prose, StringConstraints(strip_whitespace=True, min_length=1, max_length=4000)]


class WorkChange(Change):
    """What a curator changes of a work."""

    title: Title | None = None
    venue: Annotated[Line, StringConstraints(max_length=200)] | None = None
    published_title: Annotated[Line, StringConstraints(max_length=400)] | None = None
    url: Url | None = None
    published: Annotated[str, AfterValidator(_date)] | None = Field(None, description="YYYY, YYYY-MM or YYYY-MM-DD")
    authors: list[Annotated[Line, StringConstraints(min_length=1, max_length=200)]] | None = None
    topics: list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,80}$")]] | None = None

    @field_validator("authors", "topics")
    @classmethod
    def _once(cls, names: list[str] | None) -> list[str] | None:
        if names is not None and len(set(names)) < len(names):
            raise ValueError("expected each name once")
        return names


class EntryChange(Change):
    """What a curator changes of an entry."""

    tag: Tag | None = None
    title: Title | None = None
    month: Month | None = None
    bold: bool | None = None
    stars: int | None = Field(None, ge=0, le=5)
    highlights: int | None = Field(None, ge=0, le=5)


class EntryNew(Change):
    """A work to be listed in a category."""

    category: str = Field(description="its slug")
    title: Title
    month: Month
    tag: Tag = ""
    bold: bool = False
    stars: int = Field(0, ge=0, le=5)
    highlights: int = Field(0, ge=0, le=5)


class LinkNew(Change):
    """A link to be added."""

    role: Link.Role
    label: Tag
    url: Url


class LinkChange(Change):
    """What a curator changes of a link."""

    role: Link.Role | None = None
    label: Tag | None = None
    url: Url | None = None


class ClaimChange(Change):
    """What a curator changes of a claim; its key stays, as checks refer to it."""

    may_be_null = ("value",)

    statement: Statement | None = None
    metric: Text | None = None
    direction: Claim.Direction | None = None
    value: float | None = Field(None, allow_inf_nan=False, description="null for no single figure")
    unit: Annotated[Line, StringConstraints(max_length=200)] | None = None
    conditions: Text | None = None
    place: Text | None = None
    source: Url | None = None
    verified: bool | None = None
    needs: Claim.Needs | None = None


class ClaimNew(Change):
    """A claim to be added."""

    may_be_null = ("value",)

    key: Annotated[str, StringConstraints(pattern=r"^[a-z0-9-]{1,80}$")]
    statement: Statement
    direction: Claim.Direction
    metric: Text = ""
    value: float | None = Field(None, allow_inf_nan=False)
    unit: Annotated[Line, StringConstraints(max_length=200)] = ""
    conditions: Text = ""
    place: Text = ""
    source: Url | Literal[""] = ""
    verified: bool = False
    needs: Claim.Needs = Claim.Needs.ANY


class CategoryChange(Change):
    """Another name for a category."""

    name: Annotated[Line, StringConstraints(min_length=1, max_length=200)] | None = None
