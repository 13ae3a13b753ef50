"""Token buckets. Capability and grant: ``rate-limit``."""

from __future__ import annotations

from . import _host

_rate_limit = _host.interface("rate_limit")


def take(key: str, rate: float, burst: int) -> int | None:
    """Takes a token: ``None`` where there was one, or the milliseconds until there is."""
    taken = _rate_limit.take(key, rate, burst)
    return taken.value if isinstance(taken, _rate_limit.Taken_Rejected) else None
