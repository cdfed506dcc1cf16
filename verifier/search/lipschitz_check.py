"""Whether the evidence of a Lipschitz constant proves its two bounds, in exact arithmetic.

Shares nothing with the search but the types of the evidence: forms, gradients and the maxima over
the domain are computed here again, in Fractions. What it takes on trust are ``phases``: that a
coordinate called active (inactive) has a pre-activation ≥ 0 (≤ 0) on the whole domain, which comes
from rigorous pre-activation bounds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import numpy as np

from verifier.core.errors import CertificateError
from verifier.core.exact import fractions
from verifier.core.network import Network
from verifier.core.property import Box
from verifier.search.lipschitz_evidence import Capped, Lipschitz, Split, Void
from verifier.search.lipschitz_level import block_size

_ZERO = Fraction(0)
#: The same as an array, which NumPy's functions take beside arrays of Fractions.
_ZEROS = np.array(_ZERO, dtype=object)


def check_lipschitz(
    network: Network, box: Box | None, rows: Sequence[Sequence[int]] | None, claim: Lipschitz
) -> None:
    """Accept lower ≤ Lip(rows · F) ≤ upper on the box, or in all of R^d.

    Args:
        network, box, rows: as they were given to ``lipschitz``.
        claim: what it answered.

    Raises:
        CertificateError: the evidence does not prove the bounds.
    """
    checker = _Checker(network, box, rows, claim.evidence.phases)
    if claim.attained is None:
        if claim.lower != 0:
            raise CertificateError(f"the lower bound {claim.lower} has no point")
    else:
        slope = checker.slope(claim.attained.x)
        if slope != claim.attained.slope or slope != claim.lower:
            raise CertificateError(f"the slope at the point is {slope}, claimed {claim.lower}")
    upper = checker.tree(claim.evidence.steps)
    if upper > claim.upper:
        raise CertificateError(f"the tree proves {upper}, claimed {claim.upper}")


class _Checker:
    """Exact forms of one network over one domain; a form is (g_1, ..., g_n, h)."""

    def __init__(
        self,
        network: Network,
        box: Box | None,
        rows: Sequence[Sequence[int]] | None,
        phases: Sequence[np.ndarray],
    ) -> None:
        d = network.n_inputs
        self.box = box
        self.free = [j for j in range(d) if box is None or box.lower[j] < box.upper[j]]
        self.layers = [(_exact(x.dense), _exact(x.bias), x.relu) for x in network.layers]
        self.rows = _exact(np.eye(network.n_outputs) if rows is None else np.array(rows, object))
        self.phases = phases
        n = len(self.free)
        self.start = np.full((d, n + 1), _ZERO, dtype=object)
        for j in range(d):
            self.start[j, n] = _ZERO if box is None else box.lower[j]
        for column, j in enumerate(self.free):
            self.start[j, column], self.start[j, n] = Fraction(1), _ZERO

    def forms(self, decided: dict[tuple[int, int], bool]) -> tuple[int, np.ndarray]:
        """The first layer with an undecided coordinate (or the last one), and its forms."""
        forms = self.start
        for k, (weight, bias, relu) in enumerate(self.layers):
            forms = weight.dot(forms)
            forms[:, -1] += bias
            active = [self._phase(k, i, forms[i], decided) for i in range(len(relu))]
            if k + 1 == len(self.layers) or None in active:
                return k, forms
            forms = np.where(np.array(active, dtype=bool)[:, None], forms, _ZEROS)
        raise CertificateError("a network without layers")

    def _phase(
        self, k: int, i: int, form: np.ndarray, decided: dict[tuple[int, int], bool]
    ) -> bool | None:
        """Whether a coordinate is active, or None if that is open."""
        if not self.layers[k][2][i]:
            return True
        if (k, i) in decided:
            return decided[k, i]
        if self.phases[k][i] >= 0:
            return bool(self.phases[k][i])
        return bool(form[-1] > 0) if not any(form[:-1]) else None

    def slope(self, x: Sequence[Fraction]) -> Fraction:
        """The largest ℓ1 norm of a gradient at a point that lies on no kink of the domain."""
        if len(x) != len(self.start) or not self._inside(x):
            raise CertificateError("the point does not lie in the domain")
        point = [*(x[j] for j in self.free), Fraction(1)]
        forms = self.start
        for weight, bias, relu in self.layers:
            forms = weight.dot(forms)
            forms[:, -1] += bias
            z = forms.dot(point)
            for i in np.flatnonzero(relu):
                if z[i] == 0 and any(forms[i, :-1]):
                    raise CertificateError(f"the point lies on a kink (neuron {i} of its layer)")
                if z[i] <= 0:
                    forms[i] = _ZERO
        return Fraction(np.abs(self.rows.dot(forms)[:, :-1]).sum(axis=1).max())

    def _inside(self, x: Sequence[Fraction]) -> bool:
        box = self.box
        return box is None or all(
            low <= v <= high for low, v, high in zip(box.lower, x, box.upper, strict=True)
        )

    def tree(self, steps: Sequence[Any]) -> Fraction:
        """The bound that the tree proves: every cell is void or capped."""
        upper, seen = _ZERO, 0
        todo: list[tuple[int, dict[tuple[int, int], bool], list[np.ndarray]]] = [(0, {}, [])]
        while todo:
            place, decided, signs = todo.pop()
            if not 0 <= place < len(steps):
                raise CertificateError(f"the tree has no step {place}")
            step, seen = steps[place], seen + 1
            if seen > len(steps):
                raise CertificateError("the steps are no tree")
            if isinstance(step, Void):
                self._check_void(signs, step.weights, place)
            elif isinstance(step, Capped):
                if not self._capped(decided, step.slope):
                    raise CertificateError(f"step {place}: a slope can exceed {step.slope}")
                upper = max(upper, step.slope)
            elif isinstance(step, Split):
                k, forms = self.forms(decided)
                name = (step.layer, step.index)
                if step.layer != k or not 0 <= step.index < len(forms) or name in decided:
                    raise CertificateError(f"step {place}: neuron {name} cannot be split here")
                if self._phase(k, step.index, forms[step.index], decided) is not None:
                    raise CertificateError(f"step {place}: neuron {name} has a phase already")
                form = forms[step.index]
                todo.append((step.negative, {**decided, name: False}, [*signs, -form]))
                todo.append((step.positive, {**decided, name: True}, [*signs, form]))
            else:
                raise CertificateError(f"step {place} is of no known kind")
        return upper

    def _check_void(self, signs: list[np.ndarray], weights: Sequence[Fraction], place: int) -> None:
        """Σ w_i form_i ≤ 0 on the domain, w ≥ 0 not all 0: the forms are not all positive.

        In all of R^d the form of weight 0 is the constant 1 (s > 0, in homogeneous coordinates).
        """
        forms = list(signs)
        if self.box is None:
            one = np.full(len(self.free) + 1, _ZERO, dtype=object)
            one[-1] = Fraction(1)
            forms = [one, *forms]
        if len(weights) != len(forms) or any(w < 0 for w in weights) or not any(weights):
            raise CertificateError(f"step {place}: these weights prove nothing")
        total = sum((w * form for w, form in zip(weights, forms, strict=True)), 0 * forms[0])
        peak = total[-1]
        for g, j in zip(total[:-1], self.free, strict=True):
            if self.box is not None:
                peak += g * (self.box.upper[j] if g > 0 else self.box.lower[j])
            elif g != 0:
                peak = Fraction(1)
        if peak > 0:
            raise CertificateError(f"step {place}: the signs are not excluded")

    def _capped(self, decided: dict[tuple[int, int], bool], slope: Fraction) -> bool:
        """Whether no gradient with these phases and any others has a larger ℓ1 norm."""
        k, forms = self.forms(decided)
        low = high = self.rows
        ahead = None
        for j in range(len(self.layers) - 1, k, -1):
            active = [
                _known(known) if relu else True
                for known, relu in zip(self.phases[j], self.layers[j][2], strict=True)
            ]
            ahead = *_masked(low, high, active), self.layers[j][0]
            low, high = _product(*ahead)
        active = [self._phase(k, i, form, decided) for i, form in enumerate(forms)]
        low, high = _masked(low, high, active)
        gradients = forms[:, :-1]
        ends = _product(low, high, gradients)
        if np.maximum(*map(np.abs, ends)).sum(axis=1).max() <= slope:
            return True
        # Each block of coordinates by itself, for all signs that its gradient can have.
        total, size = np.full(len(low), _ZERO, dtype=object), block_size(len(self.free))
        for first in range(0, len(self.free), size):
            block = gradients[:, first : first + size]
            along = block.dot(np.array(list(itertools.product((1, -1), repeat=block.shape[1]))).T)
            found = _product(low, high, along)[1]
            if ahead is not None:
                found = np.minimum(found, _further(*ahead, active, along))
            total = total + found.max(axis=1)
        return bool(total.max() <= slope)


def _further(
    low: np.ndarray,
    high: np.ndarray,
    weight: np.ndarray,
    active: Sequence[bool | None],
    along: np.ndarray,
) -> np.ndarray:
    """The largest t W Λ along, (K, C), for t in the intervals, and Λ the phases, each by itself."""
    ends = _product(*_masked(along.T, along.T, active), weight.T)
    corners = [t[:, :, None] * end.T[None] for t in (low, high) for end in ends]
    return np.asarray(np.maximum.reduce(corners).sum(axis=1))


def _masked(
    low: np.ndarray, high: np.ndarray, active: Sequence[bool | None]
) -> tuple[np.ndarray, np.ndarray]:
    """The intervals (K, n) times 1, 0 or, for None, [0, 1], column by column."""
    off = np.array([a is False for a in active])
    free = np.array([a is None for a in active])
    return (
        np.where(off, _ZEROS, np.where(free, np.minimum(low, _ZEROS), low)),
        np.where(off, _ZEROS, np.where(free, np.maximum(high, _ZEROS), high)),
    )


def _product(
    low: np.ndarray, high: np.ndarray, weight: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The intervals (K, n) times an exact matrix (n, m)."""
    plus, minus = np.maximum(weight, _ZEROS), np.minimum(weight, _ZEROS)
    return low.dot(plus) + high.dot(minus), high.dot(plus) + low.dot(minus)


def _known(phase: int) -> bool | None:
    return None if phase < 0 else bool(phase)


def _exact(array: np.ndarray) -> np.ndarray:
    """The numbers as an object array of Fractions."""
    out = np.empty(array.size, dtype=object)
    out[:] = fractions(array.ravel())
    return out.reshape(array.shape)
