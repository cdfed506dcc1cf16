"""The best combination of a few linear forms on a box: a small linear program, compiled."""

from __future__ import annotations

from verifier.bounds.jit import jit


@jit
def combine(const, rows, w):  # type: ignore[no-untyped-def]
    """Simplex method for max over t in [-1, 1]^d of min_q (const_q + rows_q . t).

    With s = the minimum shifted to be nonnegative and v = t + 1:  maximise s subject to
    s - rows_q . v <= const_q - sum rows_q + shift  and  v_j <= 2.  The duals of the first
    constraints are the weights of the best combination. Stops early after a fixed number of
    pivots: any weights are sound.
    """
    k, d = rows.shape
    m, n = k + d, 1 + d
    tab = w.tableau[: m + 1, : n + m + 1]
    tab[:, :] = 0.0
    shift = 0.0
    for q in range(k):
        total = abs(const[q])
        for j in range(d):
            total += abs(rows[q, j])
        shift = max(shift, total)
    for q in range(k):
        tab[q, 0] = 1.0
        rhs = const[q] + shift
        for j in range(d):
            tab[q, 1 + j] = -rows[q, j]
            rhs -= rows[q, j]
        tab[q, n + q] = 1.0
        tab[q, n + m] = max(rhs, 0.0)
        w.basis[q] = n + q
    for j in range(d):
        tab[k + j, 1 + j] = 1.0
        tab[k + j, n + k + j] = 1.0
        tab[k + j, n + m] = 2.0
        w.basis[k + j] = n + k + j
    tab[m, 0] = -1.0
    for _ in range(8 * m):
        if not pivot(tab, w.basis, m, n):
            break
    total = 0.0
    for q in range(k):
        w.weights[q] = max(tab[m, n + q], 0.0)
        total += w.weights[q]
    for q in range(k):
        w.weights[q] = w.weights[q] / total if total > 0.0 else 1.0 / k
    for j in range(d):
        w.point[j] = -1.0
    for i in range(m):
        if 1 <= w.basis[i] <= d:
            w.point[w.basis[i] - 1] = min(max(tab[i, n + m] - 1.0, -1.0), 1.0)


@jit
def pivot(tab, basis, m, n):  # type: ignore[no-untyped-def]
    """One step of the tableau simplex method; False when no column improves."""
    columns = n + m
    enter = 0
    for j in range(columns):
        if tab[m, j] < tab[m, enter]:
            enter = j
    if tab[m, enter] > -1e-12:
        return False
    leave = -1
    ratio = 0.0
    for i in range(m):
        if tab[i, enter] > 1e-12:
            r = tab[i, columns] / tab[i, enter]
            if leave < 0 or r < ratio:
                leave = i
                ratio = r
    if leave < 0:
        return False
    scale = 1.0 / tab[leave, enter]
    for j in range(columns + 1):
        tab[leave, j] *= scale
    for i in range(m + 1):
        factor = tab[i, enter]
        if i != leave and factor != 0.0:
            for j in range(columns + 1):
                tab[i, j] -= factor * tab[leave, j]
    basis[leave] = enter
    return True
