"""What a computed pre-activation may be beside the exact one."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Rounding:
    """How far a computed W a + b may be from the exact one, neuron by neuron.

    At most relative (|W| |a| + |b|) + absolute, whatever the order of summation.

    Args:
        relative, absolute: at least 0; both 0 for exact arithmetic.
    """

    relative: float = 0.0
    absolute: float = 0.0

    def __bool__(self) -> bool:
        """Whether anything is rounded."""
        return self.relative > 0 or self.absolute > 0


EXACT = Rounding()
