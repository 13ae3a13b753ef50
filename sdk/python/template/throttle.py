"""Admits so many requests of each caller: some a second and, where configured, some a day."""

from dataclasses import dataclass
from typing import Any

from tidegate import Admission, Admit, Exceeded, Reject, Request, quota, rate_limit


@dataclass
class Clients:
    rate: float
    burst: int
    limit: int | None = None
    header: str = "x-client"
    anonymous: bool = False

    def reads(self) -> dict[str, str]:
        # The host hands the header over with each call, which costs half of what asking for it does.
        return {"client": f"header:{self.header}"}

    def admit(self, request: Request) -> Admission:
        client = request.given["client"]
        if client is None and not self.anonymous:
            return Reject(1000)  # a name is missing, not time
        key = f"client {client or ''}"
        retry_ms = rate_limit.take(key, self.rate, self.burst)
        if retry_ms is not None:
            return Reject(retry_ms)
        if self.limit is None:
            return Admit()
        taken = quota.take(key, 1, quota.Terms(self.limit, "day"))
        return Admit() if taken.admitted else Exceeded(taken.renews_in_ms)


def configure(configuration: dict[str, Any]) -> Clients:
    return Clients(**configuration)
