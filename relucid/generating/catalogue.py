"""The families by their names."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relucid.generating.family import Family

FAMILIES: Mapping[str, str] = MappingProxyType(
    {
        "hidden": "relucid.generating.hidden",
    }
)
"""Name to module, which has a ``FAMILY``."""


def family(name: str) -> Family:
    """A family; nothing else is loaded."""
    found: Family = import_module(FAMILIES[name]).FAMILY
    return found
