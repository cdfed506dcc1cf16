"""The checker: is this file a proof that the network satisfies the property?

It knows nothing of how the proof was found, and trusts no number in it. FORMAT.md has the rules and
why each is sound. Every comparison is one of integers.
"""

from __future__ import annotations

from collections.abc import Callable

from verifier.core.network import Network
from verifier.core.property import Property
from verifier.proof.case import Case
from verifier.proof.format import Columns, Reader
from verifier.proof.leaves import lemma, neurons
from verifier.proof.outcome import InvalidError
from verifier.proof.pairs import Intervals
from verifier.proof.rounding import rounding
from verifier.proof.visit import visit

#: What becomes of each kind of block; a rule returns the number of nodes that it finished with.
RULES: dict[str, Callable[[Case, Columns, str], int]] = {
    "visit": visit,
    "lemma": lemma,
    "neurons": neurons,
    "rounding": rounding,
}


def check(network: Network, prop: Property, reader: Reader) -> int:
    """Follow a proof to its end.

    Args:
        network: as the model file says; from ``float32.rounded`` if the proof is about what float32
            sums can give.
        prop: as the property file says.
        reader: the proof, whose hashes the caller has compared.

    Returns:
        the number of nodes visited.

    Raises:
        InvalidError: it proves something else, or nothing.
        CertificateError: it is damaged.
    """
    extended = network.with_inputs_as_outputs() if prop.mixes_inputs else network
    intervals = Intervals(extended, prop)
    state: Case | None = None
    done = visited = 0
    for number, (name, columns) in enumerate(reader.blocks()):
        step = f"block {number}"
        if network.is_rounded and name in ("pairs", "intervals"):
            raise InvalidError(name, step, "the rule holds in exact arithmetic only")
        if name == "pairs":
            intervals.pairs(columns, step)
        elif name == "intervals":
            if state is not None and state.stack:
                raise InvalidError("intervals", step, f"not the end of case {done - 1}")
            count, state = intervals.prove(columns, done, step), None
            done, visited = done + count, visited + count
        elif name == "case":
            if (state is not None and state.stack) or columns["case"].tolist() != [done]:
                raise InvalidError("case", step, f"not the end of case {done - 1} and case {done}")
            if done == len(prop.cases):
                raise InvalidError("case", step, f"there are only {done} cases")
            state = Case(extended, prop, done)
            done += 1
        elif state is None:
            raise InvalidError(name, step, "it comes before the first case")
        else:
            visited += RULES[name](state, columns, step)
    if done != len(prop.cases) or (state is not None and state.stack):
        raise InvalidError(
            "case", "end", f"{done} of {len(prop.cases)} cases, or open nodes are left"
        )
    return visited
