"""Demands a header, and a body of one media type that is not too long."""

from dataclasses import dataclass
from typing import Any

from tidegate import InvalidBody, InvalidParameters, Request, UnsupportedMediaType, Valid, Validity, request_body


@dataclass
class Submission:
    header: str = "idempotency-key"
    media_type: str = "application/json"
    body_bytes_max: int = 1024

    def reads(self) -> dict[str, str]:
        # The host hands them over with each call, which costs half of what asking for them does.
        return {"named": f"header:{self.header}", "content_type": "header:content-type"}

    def validate(self, request: Request) -> Validity:
        if request.given["named"] is None:
            return InvalidParameters(f"the header {self.header} is missing")
        media_type, _, _ = (request.given["content_type"] or "").partition(";")
        if media_type.strip().lower() != self.media_type:
            return UnsupportedMediaType()
        if len(request_body.read()) > self.body_bytes_max:
            return InvalidBody(f"the body is over {self.body_bytes_max} bytes")
        return Valid()


def configure(configuration: dict[str, Any]) -> Submission:
    return Submission(**{name.replace("-", "_"): value for name, value in configuration.items()})
