"""The rules "pairs" and "intervals", box by box, without any rounding: FORMAT.md, section 4."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

from verifier.core.exact import common_denominator
from verifier.core.network import Network
from verifier.core.property import Box, Property
from verifier.core.sparse import sp
from verifier.proof.format import Columns
from verifier.proof.outcome import InvalidError

#: (p, r, t) within a layer, and a row: column -> coefficient.
Pair = tuple[int, int, int]
Entries = dict[int, int]
Interval = tuple[int, int]
#: Entries that pairs may lead to.
_MOST = 1 << 25


class Intervals:
    """Proves cases by intervals of the outputs.

    Args:
        network: with the inputs as further outputs if the property mixes them.
        prop: the property.
    """

    def __init__(self, network: Network, prop: Property) -> None:
        self.network, self.prop = network, prop
        self.stages: list[tuple[list[Entries], list[int], int]] = []
        self.paired: list[list[Pair]] = [[] for _ in network.layers]

    def pairs(self, columns: Columns, step: str) -> None:
        """The rule "pairs": from now on these pairs are used."""
        lists = [columns[name].tolist() for name in ("stride", "offset", "minus")]
        if len({len(column) for column in lists}) > 1 or any(v > 1 for v in lists[2]):
            raise InvalidError("pairs", step, "columns of different lengths, or an unknown sign")
        layers = self.network.layers
        place = [(k, i) for k, layer in enumerate(layers) for i in range(layer.n_out)]
        self.stages, self.paired = [], [[] for _ in layers]
        for i, (p, offset, minus) in enumerate(
            zip(itertools.accumulate(lists[0]), *lists[1:], strict=True)
        ):
            r = p + offset
            if not (offset and p < len(place) and 0 <= r < len(place)):
                raise InvalidError("pairs", f"{step}, pair {i}", f"{p} and {r} are no pair")
            (k, first), (other, second) = place[p], place[r]
            if k != other or not layers[k].relu[second]:
                raise InvalidError("pairs", f"{step}, pair {i}", f"{p} and {r} are no pair")
            self.paired[k].append((first, second, -1 if minus else 1))

    def prove(self, cases: Sequence[int], step: str) -> None:
        """The rule "intervals": some row of every clause of these cases holds nowhere."""
        for c in cases:
            case = self.prop.cases[c]
            low, high = self._outputs(case.box, step)
            for k, clause in enumerate(case.clauses):
                for row in clause:
                    most = sum((v * (high if v > 0 else low)[i] for i, v in row.terms), Fraction(0))
                    if most < row.bound or (most == row.bound and row.strict):
                        break
                else:
                    why = f"bounds on the outputs exclude no constraint of clause {k}"
                    raise InvalidError("intervals", f"{step}, case {c}", why)

    def _outputs(self, box: Box, step: str) -> tuple[list[Fraction], list[Fraction]]:
        """Intervals of the outputs on a box, exactly those of the rule."""
        self.stages = self.stages or self._built(step)
        whole, q = common_denominator([*box.lower, *box.upper])
        values = list(zip(whole[: len(box)], whole[len(box) :], strict=True))
        for k, (rows, biases, scale) in enumerate(self.stages):
            z = []
            for row, bias in zip(rows, biases, strict=True):
                ends = [values[j] if w > 0 else values[j][::-1] for j, w in row.items()]
                pairs = list(zip(row.values(), ends, strict=True))
                z.append(tuple(sum(w * e[i] for w, e in pairs) + bias * q for i in (0, 1)))
            values, q = self._activated(k, z), q << scale
        low, high = zip(*values[: self.network.n_outputs], strict=True)
        return [Fraction(v, q) for v in low], [Fraction(v, q) for v in high]

    def _built(self, step: str) -> list[tuple[list[Entries], list[int], int]]:
        """For every layer: rows, biases, scale; all are integers times 2^-scale, scale ≥ 0.

        The rows z_p + t z_r of its pairs stand behind the others; columns of pairs of the layer
        before stand behind those of its neurons.
        """
        out: list[tuple[list[Entries], list[int], int]] = []
        size = 0
        for k, layer in enumerate(self.network.layers):
            if not layer.is_float:
                raise InvalidError("intervals", step, "the weights are no float64 numbers")
            matrix = sp.csr_array(layer.weight)
            numbers = [Fraction(v) for v in (*matrix.data.tolist(), *layer.bias.tolist())]
            whole, unit = common_denominator(numbers)
            biases, columns = whole[matrix.nnz :], matrix.indices.tolist()
            rows = [
                dict(zip(columns[a:b], whole[a:b], strict=True))
                for a, b in itertools.pairwise(matrix.indptr.tolist())
            ]
            for p, r, t in self.paired[k]:
                both = defaultdict(int, rows[p])
                for j, w in rows[r].items():
                    both[j] += t * w
                rows.append({j: w for j, w in both.items() if w})
                biases.append(biases[p] + t * biases[r])
                if (size := size + len(rows[p]) + len(rows[r])) > _MOST:
                    raise InvalidError("pairs", step, f"more than {_MOST} entries")
            if k:
                partners: dict[int, list[tuple[int, int, int]]] = defaultdict(list)
                for m, (p, r, t) in enumerate(self.paired[k - 1]):
                    partners[p].append((r, t, layer.n_in + m))
                for row in rows:
                    _pair_up(row, partners)
            out.append((rows, biases, unit.bit_length() - 1))
        return out

    def _activated(self, k: int, z: list[Any]) -> list[Interval]:
        """The intervals behind the ReLUs, then those of the pairs."""
        relu = self.network.layers[k].relu.tolist()
        out = [
            (max(low, 0), max(high, 0)) if r else (low, high)
            for (low, high), r in zip(z, relu, strict=False)
        ]
        for (p, r, t), d in zip(self.paired[k], z[len(relu) :], strict=True):
            ends = _pair(z[p], z[r], d, t, not relu[p] or z[p][0] >= 0)
            other = out[r] if t > 0 else (-out[r][1], -out[r][0])
            separate = out[p][0] + other[0], out[p][1] + other[1]
            out.append((max(ends[0], separate[0]), min(ends[1], separate[1])))
        return out


def _pair_up(row: Entries, partners: dict[int, list[tuple[int, int, int]]]) -> None:
    """c a_p + c t a_r as c times the pair's column: in the order of p, then r."""
    for p in sorted(j for j in row if j in partners):
        for r, t, column in sorted(partners[p]):
            if row.get(p) and row.get(r) == t * row[p]:
                row[column] = row.pop(p)
                del row[r]


def _pair(b: Interval, a: Interval, d: Interval, t: int, identity: bool) -> Interval:
    """The interval of a_p + t a_r by the table of FORMAT.md; where ``identity``, a_p is z_p = b."""
    if t > 0:
        low, high = (max(b[i], d[i], *(() if identity else (a[i], 0))) for i in (0, 1))
        return low, high
    ends = []
    for i in (0, 1):
        one = other = min(b[i], d[i])
        if not identity:  # a has the minus sign: its other end counts
            one = min(max(b[i], 0), max(d[i], -a[1 - i]))
            other = max(other, -max(a[1 - i], 0))
        ends.append((one, other))
    return max(ends[0]), min(ends[1])
