"""Sends requests to one of two upstreams, or answers all of them while both are closed."""

from dataclasses import dataclass
from typing import Any

from tidegate import Forward, Plan, RemoveHeader, Request, Response


@dataclass
class Switch:
    upstream: str
    preview: str | None = None
    timeout_ms: int | None = None
    closed: str | None = None

    def reads(self) -> dict[str, str]:
        # The host hands them over with each call, which costs half of what asking for them does.
        return {"path": "path", "query": "query-string", "previewing": "header:x-preview"}

    def integrate(self, request: Request) -> Plan:
        if self.closed is not None:
            return Response(503, [("content-type", "text/plain")], self.closed.encode())
        given = request.given
        query = "" if given["query"] is None else f"?{given['query']}"
        if self.preview is None or given["previewing"] is None:
            return Forward(f"http://{self.upstream}{given['path']}{query}", timeout_ms=self.timeout_ms)
        edits = [RemoveHeader("x-preview")]
        return Forward(f"http://{self.preview}{given['path']}{query}", edits=edits, timeout_ms=self.timeout_ms)


def configure(configuration: dict[str, Any]) -> Switch:
    return Switch(**{name.replace("-", "_"): value for name, value in configuration.items()})
