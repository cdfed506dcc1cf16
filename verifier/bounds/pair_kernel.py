"""Compiled search for pairs of neurons whose sum or difference is a maximum or a minimum.

Matrices are in CSR form: row i has columns ``indices[indptr[i]:indptr[i+1]]``, ascending, with the
coefficients ``data`` at the same places. ``verifier.bounds.pairs`` makes the arrays that are
written here; the rule itself is in ``verifier.bounds.ball_batch``.
"""

from __future__ import annotations

from verifier.bounds.jit import jit


@jit
def transposed(indptr, indices, heads, fill, rows, places):  # type: ignore[no-untyped-def]
    """For each column j the rows[heads[j]:heads[j+1]] that have it, and where.

    Args:
        indptr, indices: a matrix.
        heads: (columns + 1,) zeros; written.
        fill: (columns,), rows, places: as long as indices; written.
    """
    for e in range(len(indices)):
        heads[indices[e] + 1] += 1
    for j in range(len(fill)):
        heads[j + 1] += heads[j]
        fill[j] = heads[j]
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            j = indices[e]
            rows[fill[j]], places[fill[j]] = i, e
            fill[j] += 1


@jit
def cancelling(  # type: ignore[no-untyped-def]
    indptr, indices, data, heads, rows, places, relu, start, found, signs
):
    """Pairs (p, r) with a sign t = ±1 such that z_p + t z_r reads nothing that z_p reads.

    That is, row r holds −t times the coefficients of row p wherever p has any, and r has a ReLU.

    Args:
        indptr, indices, data: (n, columns) weight.
        heads, rows, places: from ``transposed``.
        relu: (n,) bool.
        start, found, signs: written: the partners of p are found[start[p]:start[p+1]], their signs
            stand beside them; start is (n + 1,).

    Returns:
        how many there are, or −1 if they are more than there is room for.
    """
    start[0] = 0
    count = 0
    for p in range(len(indptr) - 1):
        first, last = indptr[p], indptr[p + 1]
        if last > first:
            j = indices[first]
            for h in range(heads[j], heads[j + 1]):
                r, e = rows[h], places[h]
                if r == p or not relu[r] or abs(data[e]) != abs(data[first]):
                    continue
                t = -1 if data[e] == data[first] else 1
                # The sum of two ReLUs that read the same is the same pair seen from r.
                if t == 1 and r < p and relu[p] and indptr[r + 1] - indptr[r] == last - first:
                    continue
                if _cancels(indices, data, first, last, e, indptr[r + 1], t):
                    if count == len(found):
                        return -1
                    found[count], signs[count] = r, t
                    count += 1
        start[p + 1] = count
    return count


@jit
def _cancels(indices, data, first, last, e, end, t):  # type: ignore[no-untyped-def]
    """Whether entries e..end have −t times the coefficients of entries first..last."""
    for k in range(first, last):
        while e < end and indices[e] < indices[k]:
            e += 1
        if e == end or indices[e] != indices[k] or data[e] != -t * data[k]:
            return False
    return True


@jit
def paired(  # type: ignore[no-untyped-def]
    indptr, indices, data, start, partners, signs, seen, place, taken, number,
    new_indptr, new_indices, new_data, firsts, which,
):  # fmt: skip
    """Each row with the pairs that it reads put together: c a_p + c t a_r = c (a_p + t a_r).

    Args:
        indptr, indices, data: rows over some activations.
        start, partners, signs: of the layer that gives the activations, from ``cancelling``.
        seen: (activations,) of −1; written.
        place: (activations,); written.
        taken: as long as indices, False; written.
        number: as long as partners, of −1; written.
        new_indptr, new_indices, new_data: as long as the rows; written: the rows over the
            activations and, after these, the pairs that some row reads.
        firsts, which: as long as partners; written: pair k is (firsts[k], partners[which[k]]).

    Returns:
        (number of pairs, number of entries of the new rows).
    """
    columns = len(seen)
    pairs = 0
    out = 0
    new_indptr[0] = 0
    for i in range(len(indptr) - 1):
        for e in range(indptr[i], indptr[i + 1]):
            seen[indices[e]], place[indices[e]] = i, e
        for e in range(indptr[i], indptr[i + 1]):
            p = indices[e]
            for q in range(start[p], start[p + 1]):
                r = partners[q]
                if taken[e] or seen[r] != i or taken[place[r]]:
                    continue
                if data[place[r]] != signs[q] * data[e]:
                    continue
                taken[e] = taken[place[r]] = True
                if number[q] < 0:
                    number[q], firsts[pairs], which[pairs] = pairs, p, q
                    pairs += 1
                new_indices[out], new_data[out] = columns + number[q], data[e]
                out += 1
        for e in range(indptr[i], indptr[i + 1]):
            if not taken[e]:
                new_indices[out], new_data[out] = indices[e], data[e]
                out += 1
        new_indptr[i + 1] = out
    return pairs, out


@jit
def combined(  # type: ignore[no-untyped-def]
    indptr, indices, data, p, r, t, new_indptr, new_indices, new_data
):
    """The rows z_p + t z_r of pairs from ``cancelling``: t times row r where p has no coefficient.

    Args:
        indptr, indices, data: rows.
        p, r, t: the pairs.
        new_indptr, new_indices, new_data: written: the given rows followed by one row a pair;
            nothing is rounded.
    """
    n = len(indptr) - 1
    for i in range(n + 1):
        new_indptr[i] = indptr[i]
    out = indptr[n]
    for e in range(out):
        new_indices[e], new_data[e] = indices[e], data[e]
    for k in range(len(p)):
        e, last = indptr[p[k]], indptr[p[k] + 1]
        for f in range(indptr[r[k]], indptr[r[k] + 1]):
            if e < last and indices[e] == indices[f]:
                e += 1
            else:
                new_indices[out], new_data[out] = indices[f], t[k] * data[f]
                out += 1
        new_indptr[n + 1 + k] = out
