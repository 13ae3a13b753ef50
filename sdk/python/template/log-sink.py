"""Writes down the requests that failed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tidegate import log_output


@dataclass
class Failures:
    least: int = 400

    def reads(self) -> dict[str, str]:
        return {"status": "context:status", "route": "context:routeKey"}

    def write(self, records: Sequence[Mapping[str, str | None]]) -> None:
        failed = (record for record in records if int(record["status"] or 0) >= self.least)
        log_output.write([f"{record['status']} {record['route'] or '-'}" for record in failed])


def configure(configuration: dict[str, Any]) -> Failures:
    return Failures(**configuration)
