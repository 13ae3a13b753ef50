"""Lets in who has a session: asks the service that keeps them, and remembers for a minute what it said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tidegate import Allow, Forbidden, Request, Unauthorized, Verdict, http_client, metrics, secrets, shared_cache

REMEMBERED_MS = 60_000


@dataclass
class Session:
    service: str

    def reads(self) -> dict[str, str]:
        return {"token": "header:x-session", "method": "method"}

    def authorize(self, request: Request) -> Verdict:
        token = request.given["token"]
        if token is None:
            return Unauthorized("Session")
        if request.given["method"] == "DELETE":
            shared_cache.delete(token)  # after this request there is no such session
        known = shared_cache.get(token)
        if known is not None:
            metrics.count("remembered")
            return Allow(known.decode())
        metrics.count("asked")
        id = self.ask(token)
        if id is None:
            return Forbidden("no such session")
        shared_cache.set(token, id.encode(), REMEMBERED_MS)
        return Allow(id)

    def ask(self, token: str) -> str | None:
        """Whose session it is."""
        authorization = f"Bearer {secrets.get('sessions')}"
        headers = [("authorization", authorization)]
        answer = http_client.send(self.service, "POST", headers, token.encode(), timeout_ms=2000)
        if answer.status == 404:
            return None
        if answer.status != 200:
            raise RuntimeError(f"the service answered {answer.status}")
        id: str = json.loads(answer.body)["id"]
        return id


def configure(configuration: dict[str, Any]) -> Session:
    return Session(**configuration)
