"""Lets in who has an API key of the node, or a token that the identity provider has signed (RFC 7519, ES256)."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from dataclasses import dataclass
from typing import Any

from tidegate import Allow, Forbidden, Request, Unauthorized, Verdict, api_keys, crypto, jwks


@dataclass
class Visitor:
    provider: str

    def reads(self) -> dict[str, str]:
        return {
            "api_key": "header:x-api-key",
            "authorization": "header:authorization",
            "now": "context:requestTimeEpoch",
        }

    def authorize(self, request: Request) -> Verdict:
        api_key = request.given["api_key"]
        if api_key is not None:
            return by_key(api_key)
        scheme, _, text = (request.given["authorization"] or "").partition(" ")
        token = Token.parse(text) if scheme == "Bearer" else None
        if token is None:
            return Unauthorized("Bearer")
        key = self.find_key(token.header.get("kid"))
        now = float(request.given["now"] or "inf")
        if key is None or not token.is_signed(key) or 1000 * token.claims.get("exp", 0) <= now:
            return Unauthorized("Bearer")
        return Allow(token.claims["sub"])

    def find_key(self, id: str | None) -> dict[str, Any] | None:
        """The provider's key of this id; one that is new may not be in the set that the node keeps."""
        for refresh in (False, True):
            keys: list[dict[str, Any]] = jwks.fetch(self.provider, refresh)["keys"]
            for key in keys:
                if key.get("kid") == id:
                    return key
        return None


def by_key(value: str) -> Verdict:
    key = api_keys.find(value)
    return Allow(key.name, usage_identifier_key=key.id) if key else Forbidden("unknown API key")


@dataclass
class Token:
    header: dict[str, Any]
    claims: dict[str, Any]
    signature: bytes
    #: What the signature is over.
    message: bytes

    @staticmethod
    def parse(text: str) -> Token | None:
        message, _, signature = text.rpartition(".")
        header, _, claims = message.partition(".")
        try:
            return Token(members(header), members(claims), decode(signature), message.encode())
        except (TypeError, ValueError):
            return None

    def is_signed(self, key: dict[str, Any]) -> bool:
        try:
            return crypto.verify("es256", key, self.message, self.signature)
        except Exception:
            return False  # an unfit key signs nothing


def members(part: str) -> dict[str, Any]:
    return dict(json.loads(decode(part)))


def decode(part: str) -> bytes:
    return urlsafe_b64decode(part + "=" * (-len(part) % 4))


def configure(configuration: dict[str, Any]) -> Visitor:
    return Visitor(**configuration)
