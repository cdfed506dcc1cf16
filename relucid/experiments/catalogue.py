"""The experiments by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relucid.experiments.findings import Findings
    from relucid.experiments.workshop import Workshop

EXPERIMENTS: Mapping[str, str] = MappingProxyType(
    {
        "bias-parts": "relucid.experiments.bias_parts",
        "game": "relucid.experiments.game",
        "trade-off": "relucid.experiments.trade_off",
        "gap": "relucid.experiments.gap",
        "few-pixels": "relucid.experiments.few_pixels",
        "bias-verified": "relucid.experiments.bias_verified",
        "bias-safety": "relucid.experiments.bias_safety",
        "parameter-attack": "relucid.experiments.parameter_attack",
        "bias-attacks": "relucid.experiments.bias_attacks",
    }
)
"""Name to module; the module's function ``run`` takes a workshop and gives findings."""


def experiment(name: str) -> Callable[[Workshop], Findings]:
    """The function of an experiment; nothing else is loaded."""
    return import_module(EXPERIMENTS[name]).run
