"""Key sets of identity providers. Capability and grant: ``jwks``."""

from __future__ import annotations

import json
from typing import Any

from . import _host

_jwks = _host.interface("jwks")


def fetch(uri: str, refresh: bool = False) -> dict[str, Any]:
    """The key set; ``refresh`` fetches it again, at most once in 30 seconds."""
    return json.loads(_jwks.fetch(uri, refresh))
