"""Says how long a response may be kept, and not what made it."""

from dataclasses import dataclass
from typing import Any

from tidegate import Edit, RemoveHeader, Request, SetHeader, response


@dataclass
class Lifetime:
    max_age: int

    def transform_response(self, request: Request) -> list[Edit]:
        value = f"max-age={self.max_age}" if response.status() < 400 else "no-store"
        return [SetHeader("cache-control", value), RemoveHeader("server")]


def configure(configuration: dict[str, Any]) -> Lifetime:
    return Lifetime(configuration.get("max-age", 60))
