"""Where gradients are looked at: a box or all of R^d, and the open cells that affine forms cut out.

A form is a list (g_1, ..., g_n, h) that means g·x + h, over the n coordinates that are free: those
of positive width in a box, or all of them. A cell is { x in the domain : every form > 0 }. An open
convex set that meets the domain meets its interior, so a cell is full-dimensional exactly if it is
not empty, which one exact linear program with strict rows decides.

In all of R^d, points are written x = v / s with v in [−1, 1]^d and 0 < s ≤ 1, which loses none:
that makes every variable bounded, as the exact linear program wants them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction

import numpy as np
from flint import fmpq, fmpq_mat

from verifier.core.errors import PropertyError
from verifier.core.exact_lp import Empty, Inequalities, Point, decide
from verifier.core.property import Box
from verifier.core.sparse import sp
from verifier.search.exact_forms import fraction, nearest, rational
from verifier.solvers.highs import LinearProgram

Form = list[fmpq]

_ZERO, _ONE = fmpq(0), fmpq(1)
#: Up to so many numbers in the system, exact arithmetic answers before HiGHS is even set up.
_SMALL = 60


class Domain:
    """A box, or all of R^d.

    Args:
        box: the box; None for all of R^d.
        n_inputs: d.

    Raises:
        PropertyError: the box does not fit, or is a single point.
    """

    def __init__(self, box: Box | None, n_inputs: int) -> None:
        if box is not None and len(box) != n_inputs:
            raise PropertyError(f"the box has {len(box)} coordinates, the network {n_inputs}")
        self.box = box
        self._fixed = [_ZERO] * n_inputs
        self.free = list(range(n_inputs))
        if box is not None:
            self.free = [j for j in self.free if box.lower[j] < box.upper[j]]
            self._fixed = [rational(v) for v in box.lower]
        self.n = len(self.free)
        if not self.n:
            raise PropertyError("the box is a single point: there is no slope on it")
        if box is None:
            self._lower, self._upper = [-_ONE] * self.n + [_ZERO], [_ONE] * (self.n + 1)
        else:
            self._lower = [rational(box.lower[j]) for j in self.free]
            self._upper = [rational(box.upper[j]) for j in self.free]

    @property
    def start(self) -> fmpq_mat:
        """The inputs as forms, (n_inputs, n + 1)."""
        forms = fmpq_mat(len(self._fixed), self.n + 1)
        for j, value in enumerate(self._fixed):
            forms[j, self.n] = value
        for column, j in enumerate(self.free):
            forms[j, self.n], forms[j, column] = _ZERO, _ONE
        return forms

    def middle(self) -> list[fmpq]:
        """Some point of the interior."""
        if self.box is None:
            return [_ZERO] * self.n
        return [(a + b) / 2 for a, b in zip(self._lower, self._upper, strict=True)]

    def inside(self, x: Sequence[fmpq]) -> bool:
        """Whether the point lies in the domain."""
        if self.box is None:
            return True
        return all(a <= v <= b for a, v, b in zip(self._lower, x, self._upper, strict=True))

    def whole(self, x: Sequence[fmpq]) -> tuple[Fraction, ...]:
        """The point with the coordinates that are not free."""
        values = [fraction(v) for v in self._fixed]
        for j, v in zip(self.free, x, strict=True):
            values[j] = fraction(v)
        return tuple(values)

    def of_floats(self, x: np.ndarray) -> list[fmpq]:
        """Finite float64 free coordinates, exactly, moved into the domain."""
        point = [fmpq(*float(v).as_integer_ratio()) for v in x]
        if self.box is None:
            return point
        return [max(a, min(v, b)) for a, v, b in zip(self._lower, point, self._upper, strict=True)]

    def system(self, forms: Sequence[Form]) -> Inequalities:
        """The cell as strict inequalities; in all of R^d the row s > 0 comes first."""
        if self.box is None:
            rows = [[_ZERO] * self.n + [_ONE], *forms]
            bound = [_ZERO] * len(rows)
        else:
            rows = [form[:-1] for form in forms]
            bound = [-form[-1] for form in forms]
        return Inequalities(rows, bound, [True] * len(rows), self._lower, self._upper)

    def find(
        self, forms: Sequence[Form], stop: Callable[[], bool]
    ) -> list[fmpq] | tuple[fmpq, ...] | None:
        """A point of the cell as a list, or as a tuple weights that prove the cell empty.

        Args:
            forms: at least one.
            stop: asked between steps; when it says True the answer is None.

        Returns:
            free coordinates; or weights that ``system(forms).excluded_by`` accepts; or None.
        """
        system = self.system(forms)
        alone = [_ZERO] * (len(system.rows) - 1) + [_ONE]
        if system.excluded_by(alone):
            return tuple(alone)
        if len(system.rows) * len(system.lower) > _SMALL:
            hint = _proposal(system)
            if isinstance(hint, tuple):
                return hint
            if hint is not None and system.contains(hint):
                return self._point(forms, hint)
        answer = decide(system, stop)
        if isinstance(answer, Empty):
            return answer.weights
        return self._point(forms, answer.x) if isinstance(answer, Point) else None

    def _point(self, forms: Sequence[Form], variables: Sequence[fmpq]) -> list[fmpq]:
        """Free coordinates from the system's variables, rounded to floats if that stays inside."""
        x = list(variables)
        if self.box is None:
            x = [v / x[-1] for v in x[:-1]]
        near = np.array([nearest(v) for v in x])
        if np.isfinite(near).all():
            rounded = self.of_floats(near)
            if all(value(form, rounded) > 0 for form in forms):
                return rounded
        return x


def value(form: Form, x: Sequence[fmpq]) -> fmpq:
    """g·x + h."""
    return sum((c * v for c, v in zip(form, x, strict=False) if c), form[-1])


def _proposal(system: Inequalities) -> list[fmpq] | tuple[fmpq, ...] | None:
    """What HiGHS finds: a point, not yet tested; or, as a tuple, weights that exclude one, tested.

    Maximises t ≤ 1 with rows·x − t ≥ bound, every row scaled to a largest entry of 1.
    """
    n = len(system.lower)
    exact = [[*row, bound] for row, bound in zip(system.rows, system.bound, strict=True)]
    norms = [max(abs(v) for v in row) for row in exact]
    if not all(norms):
        return None
    rows = np.array(
        [[nearest(v / s) for v in row] for row, s in zip(exact, norms, strict=True)], dtype=float
    )
    lower, upper = (np.array([nearest(v) for v in end]) for end in (system.lower, system.upper))
    least = -2.0 - np.maximum(np.abs(lower), np.abs(upper)).sum()
    lower, upper = np.append(lower, least), np.append(upper, 1.0)
    if not np.isfinite(lower).all() or not np.isfinite(upper).all():
        return None
    matrix = sp.csr_array(np.hstack([rows[:, :n], np.full((len(rows), 1), -1.0)]))
    cost = np.append(np.zeros(n), -1.0)
    program = LinearProgram(matrix, cost, (lower, upper), (rows[:, n], np.full(len(rows), np.inf)))
    hint = program.solve(seconds=10.0)
    if hint.primal is None or not np.isfinite(hint.primal).all():
        return None
    if hint.primal[n] > 0:
        point = [fmpq(*float(v).as_integer_ratio()) for v in hint.primal[:n]]
        bounds = zip(system.lower, point, system.upper, strict=True)
        return [max(a, min(v, b)) for a, v, b in bounds]
    if hint.multipliers is None or not np.isfinite(hint.multipliers).all():
        return None
    weights = tuple(
        fmpq(*float(max(w, 0.0)).as_integer_ratio()) / s
        for w, s in zip(hint.multipliers, norms, strict=True)
    )
    return weights if system.excluded_by(weights) else None
