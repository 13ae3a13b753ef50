"""Where log records go. Capability and grant: ``log-output``."""

from __future__ import annotations

from collections.abc import Sequence

from . import _host

_log_output = _host.interface("log_output")


def write(lines: Sequence[str]) -> None:
    _log_output.write(list(lines))
