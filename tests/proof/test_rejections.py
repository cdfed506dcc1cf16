"""Every rule says no by its name, the step in the file, and the numbers that disagree.

Proofs by hand about the zigzag of ``test_visit.folded``: y = |x|, or folded once more, on [-1, 1].
Inputs are x = −1 + t 2^-57, so that t goes from 0 to 2^58. The outputs are neurons like the hidden
ones, since the rows of the clauses are the last layer.
"""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.proof.test_visit import above, folded
from verifier.core.network import Layer, Network
from verifier.core.property import Property
from verifier.core.rounding import Rounding
from verifier.proof.case import InvalidError
from verifier.proof.check import check
from verifier.proof.format import Reader, Writer

END, MIDDLE = 1 << 58, 1 << 57
#: A multiplier of 1, and all units of a network with up to eight hidden neurons.
ONE = 142 - 15 << 15

Step = tuple[str, dict[str, Any]]
CASE: Step = ("case", {"case": [0]})


def visit(action: list[int], **columns: Any) -> Step:
    """A visit; axis and position are 0 where they are not given."""
    zeros = [0] * len(action)
    return "visit", {"action": action, "axis": zeros, "at": zeros} | columns


def neurons(action: list[int], **columns: Any) -> Step:
    """A block of the rule "neurons"."""
    return "neurons", {"action": action} | columns


def lemma(**columns: Any) -> Step:
    """A bound of neuron 0 of the second hidden layer, by both signs of neuron 0 of the first."""
    good = {
        "layer": [1], "neuron": [0], "side": [0], "leaves": [2], "splits": [1, 1], "unit": [0, 0],
        "sign": [0, 1], "multiplier": [ONE, ONE],
    }  # fmt: skip
    return "lemma", good | columns


def refusal(path: Path, network: Network, prop: Property, steps: list[Step]) -> InvalidError:
    """What the checker says of a proof that is none."""
    with path.open("wb") as stream:
        writer = Writer(stream, {})
        for name, columns in steps:
            writer.block(name, **columns)
        writer.close()
    with Reader(path) as reader, pytest.raises(InvalidError) as caught:
        check(network, prop, reader)
    assert str(caught.value) == f"{caught.value.rule}, {caught.value.step}: {caught.value.why}"
    return caught.value


#: Blocks after the first case of "y ≥ 1", where nothing that is true can be proved without a split
#: at 0; the rule that says no, the step, and what it says.
OF_VISITS = {
    "columns of different lengths": (
        [visit([0], at=[])], "visit", "block 1", "columns of different lengths",
    ),
    "an unknown action": ([visit([4])], "visit", "block 1", "an unknown action"),
    "no node": ([visit([])], "stack", "block 1", "0 nodes wanted, not 1 to 4096"),
    "too many nodes": ([visit([0] * 4097)], "stack", "block 1", "4097 nodes wanted, not 1 to 4096"),
    "nodes that are not open": (
        [visit([2]), visit([0, 0, 0])], "stack", "block 2", "3 nodes wanted, 2 are open",
    ),
    "an open leaf": ([visit([0])], "leaf", "block 1, node 0", "clause 0 is still open"),
    "an open leaf after a split": (
        [visit([2]), visit([3, 0])], "leaf", "block 2, node 2", "clause 0 is still open",
    ),
    "a split of no input": ([visit([1], axis=[1])], "split", "block 1", "there is no input 1"),
    "a split at a face": (
        [visit([1], at=[END])], "split", "block 1", f"input 0 at {END}, not between 0 and {END}",
    ),
    "a split of no neuron": (
        [visit([2], at=[2])], "split", "block 1", "neuron 2 of layer 0 does not exist",
    ),
    "a split of no layer": (
        [visit([2], axis=[2])], "split", "block 1", "neuron 0 of layer 2 does not exist",
    ),
    "a combination in no node": (
        [visit([3], close_node=[1], close_clause=[0], weight=[1])],
        "close", "block 1", "a node or clause that does not exist",
    ),
    "a combination of no clause": (
        [visit([3], close_node=[0], close_clause=[1], weight=[1])],
        "close", "block 1", "a node or clause that does not exist",
    ),
    "the same combination twice": (
        [visit([3], close_node=[0, 0], close_clause=[0, 0], weight=[1, 1])],
        "close", "block 1", "nodes and clauses that do not ascend",
    ),
    "weights that do not fit": (
        [visit([3], close_node=[0], close_clause=[0], weight=[1, 1, 1])],
        "close", "block 1", "3 weights for 1 forms",
    ),
    "a combination that excludes nothing": (
        [visit([3], close_node=[0], close_clause=[0], weight=[1])],
        "close", "block 1, node 0, clause 0", "the combination's lower bound is -",
    ),
    "a cut of no node": (
        [visit([3], cut_node=[1], cut_axis=[0], cut_above=[0], cut_at=[MIDDLE])],
        "cut", "block 1", "a node or input that does not exist",
    ),
    "the same cut twice": (
        [visit([3], cut_node=[0] * 2, cut_axis=[0] * 2, cut_above=[0] * 2, cut_at=[MIDDLE] * 2)],
        "cut", "block 1", "nodes and inputs that do not ascend",
    ),
    "a cut at a face": (
        [visit([3], cut_node=[0], cut_axis=[0], cut_above=[1], cut_at=[END])],
        "cut", "block 1", f"{END} is not between 0 and {END}",
    ),
    "a cut through unsafe points": (
        [visit([3], cut_node=[0], cut_axis=[0], cut_above=[1], cut_at=[MIDDLE])],
        "cut", "block 1, node 0, input 0", f"no form of some clause is positive above {MIDDLE}",
    ),
    "a case that is not over": ([CASE], "case", "block 1", "not the end of case 0 and case 1"),
    "intervals within a case": (
        [("intervals", {"case": [1]})], "intervals", "block 1", "not the end of case 0",
    ),
    "nothing more": ([], "case", "end", "1 of 1 cases, or open nodes are left"),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_VISITS)
def test_visits(name: str, tmp_path: Path) -> None:
    """Each is refused for the property that y = |x| stays below 1, which is false at ±1."""
    steps, rule, step, words = OF_VISITS[name]
    found = refusal(tmp_path / "p", folded(1), above(Fraction(1)), [CASE, *steps])
    assert (found.rule, found.step) == (rule, step)
    assert words in found.why


SPLIT = neurons([1], neuron=[0])
OF_NEURONS = {
    "an unknown action": ([neurons([4])], "neurons", "block 1", "an unknown action"),
    "a split without its neuron": (
        [neurons([1])], "neurons", "block 1", "one neuron for each split",
    ),
    "a split of no neuron": (
        [neurons([1], neuron=[5])],
        "split", "block 1, node 0", "hidden neuron 5 does not exist",
    ),
    "a neuron that is split already": (
        [SPLIT, neurons([1], neuron=[0])],
        "split", "block 2, node 2", "hidden neuron 0 is split already",
    ),
    "a sign that is assumed twice": (
        [visit([2]), visit([2]), neurons([0], weight=[1], multiplier=[ONE, ONE])],
        "leaf", "block 3", "the sign of a neuron is assumed twice",
    ),
    "a leaf without its multiplier": (
        [SPLIT, neurons([0], weight=[1])],
        "leaf", "block 2", "0 multipliers, 1 signs; 1 weights, 1 rows",
    ),
    "a leaf with a weight too many": (
        [neurons([0], weight=[1, 1])],
        "leaf", "block 1", "0 multipliers, 0 signs; 2 weights, 1 rows",
    ),
    "a negative weight": (
        [neurons([0], weight=[-1])],
        "leaf", "block 1", "0 multipliers, 0 signs; 1 weights, 1 rows",
    ),
    "a leaf that excludes nothing": (
        [neurons([0], weight=[1])],
        "leaf", "block 1, node 0", "clause 0: the lower bound is -",
    ),
    "a leaf of slopes that excludes nothing": (
        [neurons([0], weight=[1], units=[15], slopes=[0, 255, 7, 77])],
        "leaf", "block 1, node 0", "clause 0: the lower bound is -",
    ),
    "slopes of no neuron": (
        [neurons([0], weight=[1], units=[32], slopes=[0])],
        "slopes", "block 1", "1 for 1 leaves and 1 of 5 neurons",
    ),
    "slopes that do not fit": (
        [neurons([0], weight=[1], units=[3], slopes=[0, 0, 0])],
        "slopes", "block 1", "3 for 1 leaves and 2 of 5 neurons",
    ),
    "fine slopes that do not fit": (
        [neurons([0], weight=[1], units=[3], slopes=[0, 0], fine_leaf=[0], fine=[1])],
        "slopes", "block 1", "1 second bytes for 1 leaves",
    ),
    "fine slopes of no leaf": (
        [neurons([0], weight=[1], units=[1], slopes=[0], fine_leaf=[1], fine=[1])],
        "slopes", "block 1", "1 second bytes for 1 leaves",
    ),
    "an exact leaf with a weight too many": (
        [neurons([2], size=[1, 1], digits=[1, 1])],
        "exact leaf", "block 1", "1 weights too many",
    ),
    "half a rational": (
        [neurons([3], size=[1], digits=[1])],
        "exact leaf", "block 1", "rational numbers that do not fit their bytes",
    ),
    "a rational without its bytes": (
        [neurons([3], size=[1, 2], digits=[1, 1])],
        "exact leaf", "block 1", "rational numbers that do not fit their bytes",
    ),
    "a denominator of 0": (
        [neurons([3], size=[1, 1], digits=[1, 0])],
        "exact leaf", "block 1", "a denominator is 0",
    ),
    "an exact leaf of two regions": (
        [neurons([3], size=[1, 1], digits=[1, 1])],
        "exact leaf", "block 1, node 0", "the sign of a neuron is not decided",
    ),
    "a lemma about no layer": (
        [lemma(layer=[])], "lemma", "block 1", "one hidden layer is wanted",
    ),
    "a lemma about the rows": (
        [lemma(layer=[3])], "lemma", "block 1", "one hidden layer is wanted",
    ),
    "a lemma about no neuron": (
        [lemma(neuron=[2])], "lemma", "block 1", "columns that do not fit",
    ),
    "a lemma with too many leaves": (
        [lemma(leaves=[4097])], "lemma", "block 1", "columns that do not fit",
    ),
    "a sign of the layer itself": (
        [lemma(unit=[2, 2])], "lemma", "block 1", "signs that do not fit, or of later layers",
    ),
    "leaves that leave a part out": (
        [lemma(sign=[0, 0])], "lemma", "block 1, goal 0", "its leaves do not cover the node",
    ),
    "slopes of the layer itself": (
        [lemma(units=[4], slopes=[0])], "slopes", "block 1", "1 for 2 leaves and 1 of 2 neurons",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OF_NEURONS)
def test_neurons(name: str, tmp_path: Path) -> None:
    """Each is refused for the property that |x| folded once more stays below 1, which is false."""
    steps, rule, step, words = OF_NEURONS[name]
    found = refusal(tmp_path / "p", folded(2), above(Fraction(1)), [CASE, *steps])
    assert (found.rule, found.step) == (rule, step)
    assert words in found.why


def test_an_exact_leaf_names_its_value(tmp_path: Path) -> None:
    """x ≥ 0 on [-1, 1]: 1 − x is 0 at 1, which excludes y > 1 and does not exclude y ≥ 1."""
    row = np.array([[1.0]])
    network = Network(
        (Layer(row, np.zeros(1), np.ones(1, bool)), Layer(row, np.zeros(1), np.zeros(1, bool)))
    )
    prop = above(Fraction(1))
    leaf = neurons([3, 3], size=[1, 1] * 4, digits=[0, 1, 1, 1, 0, 1, 1, 1])
    found = refusal(tmp_path / "p", network, prop, [CASE, SPLIT, leaf])
    assert (found.rule, found.step) == ("exact leaf", "block 2, node 1")
    assert found.why == "clause 0: the least value is 0, not positive"
    found = refusal(tmp_path / "p", network, above(Fraction(2, 3)), [CASE, SPLIT, leaf])
    assert found.why == "clause 0: the least value is -1/3, not positive"
    few = neurons([3, 3], size=[1, 1] * 2, digits=[0, 1, 1, 1])
    found = refusal(tmp_path / "p", network, above(Fraction(2)), [CASE, SPLIT, few])
    assert (found.rule, found.step) == ("exact leaf", "block 2, node 2")
    assert found.why == "too few weights"
    (case,) = prop.cases
    strict = replace(case, clauses=((replace(case.clauses[0][0], strict=True),),))
    with (tmp_path / "p").open("wb") as stream:
        writer = Writer(stream, {})
        for name, columns in (CASE, SPLIT, leaf):
            writer.block(name, **columns)
        writer.close()
    with Reader(tmp_path / "p") as reader:
        assert check(network, replace(prop, cases=(strict,)), reader) == 3


def test_a_leaf_of_several_clauses(tmp_path: Path) -> None:
    """A backward leaf and an exact leaf are about one clause; a split into clauses comes first."""
    (case,) = above(Fraction(1)).cases
    several = Property((replace(case, clauses=case.clauses * 2),), 1, 1)
    for action in (0, 3):
        found = refusal(tmp_path / "p", folded(1), several, [CASE, neurons([action])])
        assert (found.rule, found.step) == ("leaf", "block 1, node 0")
        assert found.why == "not one open clause"


def test_steps_outside_of_cases(tmp_path: Path) -> None:
    """Rules before the first case, cases that there are not, intervals of other cases."""
    network, prop = folded(1), above(Fraction(2))
    done = visit([0])
    for steps, rule, step, words in (
        ([done], "visit", "block 0", "before the first case"),
        ([CASE, done, ("case", {"case": [1]})], "case", "block 2", "there are only 1 cases"),
        ([CASE, done, done], "stack", "block 2", "1 nodes wanted, 0 are open"),
        ([("intervals", {"case": [1]})], "intervals", "block 0", "case 0 and those after it"),
        ([("intervals", {"case": [0, 1]})], "intervals", "block 0", "case 0 and those after it"),
        ([], "case", "end", "0 of 1 cases"),
    ):
        found = refusal(tmp_path / "p", network, prop, steps)
        assert (found.rule, found.step) == (rule, step)
        assert words in found.why


def test_pairs_and_intervals(tmp_path: Path) -> None:
    """Pairs of neurons that are none, and bounds that exclude nothing."""
    for columns, step, words in (
        ({"stride": [0], "offset": [0], "minus": [0]}, "block 0, pair 0", "0 and 0 are no pair"),
        ({"stride": [1], "offset": [1], "minus": [0]}, "block 0, pair 0", "1 and 2 are no pair"),
        ({"stride": [0], "offset": [9], "minus": [0]}, "block 0", "there are 3 neurons"),
        ({"stride": [0], "offset": [1], "minus": [2]}, "block 0", "an unknown sign"),
        ({"stride": [0], "offset": [], "minus": [0]}, "block 0", "columns of different lengths"),
    ):
        found = refusal(tmp_path / "p", folded(1), above(Fraction(2)), [("pairs", columns)])
        assert (found.rule, found.step) == ("pairs", step)
        assert words in found.why
    steps = [("intervals", {"case": [0]})]
    found = refusal(tmp_path / "p", folded(1), above(Fraction(2)), steps)
    assert (found.rule, found.step) == ("intervals", "block 0, case 0")
    assert found.why == "bounds on the outputs exclude no constraint of clause 0"


def test_an_exact_leaf_is_no_rule_for_rounded_sums(tmp_path: Path) -> None:
    """Of float32 sums no layer is an affine map."""
    half = Rounding(2.0**-24, 2.0**-150)
    layers = tuple(replace(layer, rounding=half) for layer in folded(1).layers)
    leaf = neurons([3], size=[1, 1], digits=[1, 1])
    found = refusal(tmp_path / "p", Network(layers), above(Fraction(2)), [CASE, leaf])
    assert (found.rule, found.step) == ("exact leaf", "block 1")
    assert "not meant exactly" in found.why
