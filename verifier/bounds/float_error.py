"""A-priori bounds on the rounding error of float64 sums, and rounding outwards.

With unit roundoff u = 2^-53, any order of summation of n products computed in float64, with or
without fused multiply-add, satisfies (Higham, Accuracy and Stability, sections 3.1 and 3.5)

    |fl(Σ a_i b_i) − Σ a_i b_i|  ≤  γ_n Σ |a_i| |b_i| + n η,        γ_n = n u / (1 − n u),

where η = 2^-1074 covers products that underflow. The constants below are larger than needed by a
factor of two or more, so that computing the bound itself in float64 cannot spoil it.
"""

from __future__ import annotations

import numpy as np

UNIT = 2.0**-53
#: Larger than any sum of underflow errors met here (2^26 terms of 2^-1074).
TINY = 2.0**-1000


def gamma(n: int) -> float:
    """A float64 number that is at least 2 γ_{n+8}, for n up to 2^40."""
    return 2.5 * (n + 8) * UNIT


def down(values: np.ndarray | float, ulps: int = 1) -> np.ndarray:
    """At least ``ulps`` float64 steps below each value (after a few rounded operations)."""
    array = np.asarray(values, dtype=np.float64)
    return array - np.abs(array) * (2 * ulps * UNIT) - TINY


def up(values: np.ndarray | float, ulps: int = 1) -> np.ndarray:
    """At least ``ulps`` float64 steps above each value."""
    array = np.asarray(values, dtype=np.float64)
    return array + np.abs(array) * (2 * ulps * UNIT) + TINY
