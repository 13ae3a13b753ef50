"""What may be taken in a day, week or month, counted for all nodes. Capability and grant: ``quota``."""

from __future__ import annotations

from typing import Literal, NamedTuple

from . import _host

_quota = _host.interface("quota")

Period = Literal["day", "week", "month"]


class Terms(NamedTuple):
    """What a quota allows."""

    #: In one period.
    limit: int
    period: Period
    #: Subtracted from the limit in the period of the first use.
    offset: int = 0


class Taken(NamedTuple):
    """How a quota stands."""

    #: Otherwise nothing was taken.
    admitted: bool
    #: What may still be taken in this period.
    left: int
    #: The milliseconds until the next one begins.
    renews_in_ms: int


def take(key: str, amount: int, terms: Terms) -> Taken:
    """Takes the amount, 0 to look only; raises where that is not possible."""
    period = _quota.Period[terms.period.upper()]
    taken = _quota.take(key, amount, _quota.Terms(terms.limit, terms.offset, period))
    standing = taken.value
    return Taken(isinstance(taken, _quota.Taken_Admitted), standing.left, standing.renews_in_ms)
