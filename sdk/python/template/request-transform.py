"""Gives the body in capital letters, after a prefix."""

from dataclasses import dataclass
from typing import Any

from tidegate import Edit, Request, SetBody, SetHeader, request_body


@dataclass
class Capitals:
    prefix: str = "> "

    def transform_request(self, request: Request) -> list[Edit]:
        body = request_body.read()
        if not body:
            return []
        return [SetBody(self.prefix.encode() + body.upper()), SetHeader("x-changed", "yes")]


def configure(configuration: dict[str, Any]) -> Capitals:
    return Capitals(**configuration)
