"""Digests and signatures. Capability and grant: ``crypto``."""

from __future__ import annotations

import json
from typing import Literal

from . import _host

_crypto = _host.interface("crypto")

DigestAlgorithm = Literal["sha256", "sha384", "sha512"]
SignatureAlgorithm = Literal[
    "hs256", "hs384", "hs512", "rs256", "rs384", "rs512", "ps256", "ps384", "ps512", "es256", "es384", "ed-dsa"
]


def digest(algorithm: DigestAlgorithm, data: bytes) -> bytes:
    return _crypto.digest(_crypto.DigestAlgorithm[algorithm.upper()], data)


def hmac(algorithm: DigestAlgorithm, key: bytes, data: bytes) -> bytes:
    return _crypto.hmac(_crypto.DigestAlgorithm[algorithm.upper()], key, data)


def verify(algorithm: SignatureAlgorithm, key: dict[str, object], message: bytes, signature: bytes) -> bool:
    """Whether the signature is the message's under the JSON Web Key; raises what is wrong with the key."""
    name = algorithm.upper().replace("-", "_")
    return _crypto.verify(_crypto.SignatureAlgorithm[name], json.dumps(key), message, signature)


def equal(a: bytes, b: bytes) -> bool:
    """Compares in a time that depends on the lengths only."""
    return _crypto.equal(a, b)
