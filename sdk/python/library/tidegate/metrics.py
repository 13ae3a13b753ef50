"""Counters of the plugin's own. Capability and grant: ``metrics``."""

from __future__ import annotations

from . import _host

_metrics = _host.interface("metrics")


def count(event: str, amount: int = 1) -> None:
    _metrics.count(event, amount)
