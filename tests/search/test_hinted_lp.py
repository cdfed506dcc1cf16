"""What floats propose decides nearly all systems; what is returned is right in exact arithmetic."""

import numpy as np
import pytest
from flint import fmpq

from verifier.core.exact_lp import Empty, Inequalities, Point, decide
from verifier.search.hinted_lp import decide_by_hint


def system(rows, bound, strict, lower, upper):
    """All numbers as rationals."""
    numbers = [[fmpq(*v.as_integer_ratio()) for v in row] for row in rows]
    bound, lower, upper = ([fmpq(*v.as_integer_ratio()) for v in p] for p in (bound, lower, upper))
    return Inequalities(numbers, bound, strict, lower, upper)


def right(question, answer):
    """Whether the answer proves itself."""
    if isinstance(answer, Point):
        return question.contains(answer.x)
    return isinstance(answer, Empty) and question.excluded_by(answer.weights)


@pytest.mark.parametrize("scale", [1.0, 2.0**-300, 2.0**300])
def test_random_systems(scale):
    """Full and empty, with sizes far apart: decided as by the exact simplex method."""
    rng = np.random.default_rng(7)
    kinds = {Point: 0, Empty: 0}
    for _ in range(150):
        m, n = int(rng.integers(1, 9)), int(rng.integers(1, 7))
        rows = rng.normal(size=(m, n)) * 2.0 ** rng.integers(-20, 20, (m, 1)) * scale
        lower = rng.normal(size=n)
        question = system(
            rows.tolist(), (rows @ (lower + rng.random(n)) + scale * rng.normal(size=m)).tolist(),
            (rng.random(m) < 0.5).tolist(), lower.tolist(), (lower + 1.0).tolist(),
        )  # fmt: skip
        answer = decide_by_hint(question)
        assert right(question, answer)
        assert type(answer) is type(decide(question, lambda: False))
        kinds[type(answer)] += 1
    assert min(kinds.values()) > 20


def test_ties():
    """Margin 0: the vertex and its multipliers follow from the tight rows, exactly."""
    rng = np.random.default_rng(8)
    found = {Point: 0, Empty: 0, type(None): 0}
    for _ in range(100):
        n = int(rng.integers(1, 5))
        inner = rng.integers(1, 7, n) / 7.0
        rows = rng.integers(-9, 10, (n + 1, n)).astype(float)
        rows[-1] = -rng.integers(1, 5, n) @ rows[:-1]  # a positive combination of them is 0
        numbers = [[fmpq(int(v)) for v in row] for row in rows]
        at = [fmpq(round(7 * v), 7) for v in inner]
        bound = [sum((c * v for c, v in zip(row, at, strict=True)), fmpq(0)) for row in numbers]
        for strict in (True, False):
            question = Inequalities(
                numbers, bound, [strict] * (n + 1), [fmpq(0)] * n, [fmpq(1)] * n
            )
            answer = decide_by_hint(question)
            assert answer is None or right(question, answer)
            assert answer is None or type(answer) is type(decide(question, lambda: False))
            found[type(answer)] += 1
    assert found[Point] > 60
    assert found[Empty] > 60


def test_what_stays_open():
    """Nothing to ask, and a tie of one row that only a strict row breaks."""
    half = [fmpq(1, 2)]
    assert decide_by_hint(Inequalities([], [], [], half, half)) is None
    apart = Inequalities(
        [[fmpq(1)], [fmpq(-1)], [fmpq(0)]], [fmpq(1, 3), fmpq(-1, 3), fmpq(-1)],
        [False, False, True], [fmpq(0)], [fmpq(1)],
    )  # fmt: skip
    answer = decide_by_hint(apart)
    assert answer is None or right(apart, answer)
    assert right(apart, decide(apart, lambda: False))
