"""``relucid demo``: the main job on bundled real data, in under a minute."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    digits: Annotated[
        int, typer.Option(min=1, max=360, help="How many held-out digits for each network.")
    ] = 50,
    budget: Annotated[
        float, typer.Option(min=1.0, help="Seconds of searching in all, at most.")
    ] = 45.0,
) -> None:
    """Certify real handwritten digits on bundled networks, and show one that breaks."""
    from relucid import demonstration

    demonstration.demonstrate(digits, budget)
