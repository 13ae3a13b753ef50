"""Counts five headers: the authorizer of the benchmark's case `guest-python`."""

from typing import Any

from tidegate import Allow, Forbidden, Request, Verdict

NAMES = ("x-one", "x-two", "x-three", "x-four", "x-five")


class FiveHeaders:
    def authorize(self, request: Request) -> Verdict:
        if all(request.header(name) is not None for name in NAMES):
            return Allow("five")
        return Forbidden("fewer")


def configure(configuration: dict[str, Any]) -> FiveHeaders:
    return FiveHeaders()
