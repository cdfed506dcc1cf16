"""The rules "lemma" and "neurons": nothing that is false passes, whatever the columns say."""

from fractions import Fraction

import numpy as np
import pytest

from tests.search.test_branch_and_bound import tied
from tests.search.test_proof_neuron_split import checked, proof, short
from tests.search_networks import network_of
from tests.strategies import random_box, random_point
from verifier.core.errors import CertificateError
from verifier.core.network import Layer, Network
from verifier.core.property import Box, Case, LinearConstraint, Property
from verifier.proof.case import Case as Checked
from verifier.proof.case import InvalidError
from verifier.proof.check import RULES
from verifier.proof.format import BLOCKS, Reader, Writer
from verifier.proof.leaves import _require_partition, lemma, neurons

FIELDS = dict(BLOCKS.values())


def columns(name, **given):
    """All columns of a block; those not given are empty."""
    return {f: np.array(given.get(f, ()), dtype=t) for f, t in FIELDS[name]}


def unsafe_above(network, box, bound):
    """No output 0 of at least ``bound`` is asked."""
    constraint = LinearConstraint(((0, Fraction(1)),), Fraction(bound))
    return Property((Case(box, ((constraint,),)),), network.n_inputs, network.n_outputs)


def partition(rng, units, depth):
    """Sign sets {unit: sign} of the leaves of a random tree, in no order."""
    leaves = [{}]
    for _ in range(int(rng.integers(0, depth))):
        leaf = leaves.pop(int(rng.integers(len(leaves))))
        free = [u for u in units if u not in leaf]
        if not free:
            leaves.append(leaf)
            continue
        unit = int(rng.choice(free))
        leaves += [{**leaf, unit: 0}, {**leaf, unit: 1}]
    return leaves


def random_lemma(rng, case, layer, leaves):
    """A lemma with these leaves for each of some goals; slopes and multipliers are arbitrary."""
    before = case.parts[layer].start
    units = np.flatnonzero(rng.random(before) < 0.7)
    bits = np.zeros(case.parts[-1].stop, dtype=np.uint8)
    bits[units] = 1
    size = case.parts[layer].stop - before
    flat = [leaf for some in leaves for leaf in some]
    signs = [(u, s) for leaf in flat for u, s in sorted(leaf.items())]
    exponent = rng.integers(118, 132, len(signs))
    fine = np.flatnonzero(rng.random(len(flat)) < 0.4)
    return columns(
        "lemma", layer=[layer], neuron=rng.integers(0, size, len(leaves)),
        side=rng.integers(0, 2, len(leaves)), leaves=[len(some) for some in leaves],
        splits=[len(leaf) for leaf in flat], unit=[u for u, _ in signs],
        sign=[s for _, s in signs],
        multiplier=(exponent << 15) + rng.integers(0, 1 << 15, len(signs)),
        units=np.packbits(bits, bitorder="little"),
        slopes=rng.integers(0, 256, len(flat) * len(units)), fine_leaf=fine,
        fine=rng.integers(0, 256, len(fine) * len(units)),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["dense", "sparse", "partial"])
def test_bounds_of_arbitrary_lemmas_hold_at_exact_points(kind):
    """Any slopes, any multipliers: the bounds contain the exact pre-activations, and some help."""
    gained = 0
    for seed in range(12):
        rng = np.random.default_rng(seed)
        network = network_of(rng, (3, 6, 6, 5), kind)
        box = random_box(rng, 3)
        case = Checked(network, unsafe_above(network, box, 0), 0)
        before = case.stack[0].low.copy(), case.stack[0].high.copy()
        for layer in (1, 2, 1, 2):
            units = range(case.parts[layer].start)
            leaves = [partition(rng, units, 6) for _ in range(8)]
            assert lemma(case, random_lemma(rng, case, layer, leaves), "here") == 0
        (root,) = case.stack
        gained += int((root.low > before[0]).sum() + (root.high < before[1]).sum())
        scale = [2.0**-layer.scale for layer in case.chain.layers]
        for _ in range(15):
            trace = network.exact_trace(random_point(rng, box))
            for k, part in enumerate(case.parts):
                for z, low, high in zip(
                    trace[k][0], root.low[0, part], root.high[0, part], strict=True
                ):
                    unit = Fraction(scale[k])
                    assert int(low) * unit <= z <= int(high) * unit
    assert gained > 10


def test_leaves_that_do_not_cover_the_node_are_refused():
    rng = np.random.default_rng(0)
    network = network_of(rng, (3, 6, 6, 5))
    prop = unsafe_above(network, Box((-1,) * 3, (1,) * 3), 0)
    whole = [{0: 0, 1: 0}, {0: 0, 1: 1}, {0: 1}]
    good = [[{}], whole, [{2: 0}, {2: 1, 1: 0}, {2: 1, 1: 1}]]
    bad = [
        whole[:2], whole[1:], [*whole, {3: 0}], [{0: 0}], [{0: 0}, {0: 0}], [{0: 0}, {1: 1}],
        [{0: 0, 1: 0}, {0: 0, 1: 1}, {0: 1, 1: 0}], [{}, {}], [{0: 0, 1: 0}, {0: 1, 1: 1}],
        [{0: 0, 1: 0}, {0: 1, 1: 1}, {0: 0}],
    ]  # fmt: skip
    for leaves in good:
        lemma(case := Checked(network, prop, 0), random_lemma(rng, case, 1, [leaves]), "here")
    for leaves in bad:
        case = Checked(network, prop, 0)
        with pytest.raises(InvalidError, match="do not cover"):
            lemma(case, random_lemma(rng, case, 1, [leaves]), "here")
    case = Checked(network, prop, 0)
    twice = random_lemma(rng, case, 1, [whole])
    twice["unit"] = np.array([0, 0, 0, 1, 0], dtype=np.uint32)  # the first leaf names 0 twice
    with pytest.raises(InvalidError, match="do not cover"):
        lemma(case, twice, "here")


def test_no_leaf_closes_a_violated_clause():
    """Whatever slopes, weights and multipliers: a point in the node is unsafe, so it stays open."""
    refused = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        network = network_of(rng, (3, 6, 4, 2))
        box = random_box(rng, 3)
        x = random_point(rng, box)
        trace = network.exact_trace(x)
        case = Checked(network, unsafe_above(network, box, network.exact(x)[0]), 0)
        neurons_ = rng.permutation(case.parts[-1].stop)[: int(rng.integers(0, 5))]
        for index in neurons_:
            neurons(case, columns("neurons", action=[1], neuron=[index]), "split")
            layer = next(k for k, p in enumerate(case.parts) if index < p.stop)
            z = trace[layer][0][index - case.parts[layer].start]
            # Keep the child that the point is in.
            kept = case.stack.pop()
            case.stack.append(kept.take(np.array([0 if z >= 0 else 1])))
        units = np.flatnonzero(rng.random(case.parts[-1].stop) < 0.7)
        bits = np.zeros(case.parts[-1].stop, dtype=np.uint8)
        bits[units] = 1
        leaf = columns(
            "neurons", action=[0], units=np.packbits(bits, bitorder="little"),
            slopes=rng.integers(0, 256, len(units)), weight=rng.integers(0, 1 << 20, 1),
            multiplier=(rng.integers(118, 150, len(neurons_)) << 15),
        )  # fmt: skip
        with pytest.raises(InvalidError, match="not positive"):
            neurons(case, leaf, "leaf")
        refused += 1
    assert refused == 40


def test_a_slope_holds_for_a_neuron_that_is_known_to_be_stable():
    """relu(relu(x)) ≥ 0 with slope 0 for the second, whose bounds are exactly [0, 1]."""
    one, relu = np.ones((1, 1)), np.ones(1, dtype=bool)
    layers = (Layer(one, np.zeros(1), relu), Layer(one, np.zeros(1), relu))
    network = Network((*layers, Layer(-one, np.zeros(1), ~relu)))
    prop = unsafe_above(network, Box((-1,), (1,)), Fraction(1, 2))
    leaf = columns("neurons", action=[0], units=[3], slopes=[255, 0], weight=[1])
    assert neurons(case := Checked(network, prop, 0), leaf, "leaf") == 1
    assert not case.stack
    steeper = {**leaf, "slopes": np.array([255, 255], dtype=np.uint8)}
    with pytest.raises(InvalidError, match="not positive"):
        neurons(Checked(network, prop, 0), steeper, "leaf")


def recorded(path):
    """The blocks of a proof."""
    with Reader(path) as reader:
        return [(name, {f: c.copy() for f, c in block.items()}) for name, block in reader.blocks()]


def stored(path, blocks):
    with path.open("wb") as stream:
        writer = Writer(stream, {})
        for name, block in blocks:
            writer.block(name, **block)
        writer.close()
    return path


def changes(rng, column):
    """The column with a bit flipped, a number dropped, a number more, two exchanged."""
    out = []
    for _ in range(2):
        i, changed = int(rng.integers(len(column))), column.copy()
        changed[i] ^= column.dtype.type(1 << int(rng.integers(0, 8 * column.itemsize - 1)))
        out.append(changed)
    i = int(rng.integers(len(column)))
    out += [np.delete(column, i), np.append(column, column[i])]
    return [c for c in out if not np.array_equal(c, column)]


@pytest.mark.parametrize("what", ["several clauses", "conjunctions", "tie"])
def test_every_corrupted_column_is_refused_or_still_proves_no_more(what, tmp_path):
    """Corrupted proofs prove nothing of a property with the box's own outputs among the unsafe.

    Structure that is corrupted is refused for the true property too; only slopes, multipliers,
    weights and the like, which a proof may choose, can be changed and leave a proof.
    """
    network, prop = tied().source if what == "tie" else short(what)
    proof(path := tmp_path / "p.proof", network, prop)
    blocks = recorded(path)
    centre = network.exact([Fraction(0)] * network.n_inputs)
    # Unsafe at the centre: every constraint's bound is what the outputs are there.
    false = Property(
        (
            Case(
                prop.cases[0].box,
                tuple(
                    tuple(
                        LinearConstraint(c.terms, sum((v * centre[i] for i, v in c.terms), 0))
                        for c in clause
                    )
                    for clause in prop.cases[0].clauses
                ),
            ),
        ),
        prop.n_inputs, prop.n_outputs,
    )  # fmt: skip
    rng, accepted, refused = np.random.default_rng(1), {}, {}
    checked(stored(path, blocks), network, prop)
    wanted = [
        (number, field, changed)
        for number, (_, block) in enumerate(blocks)
        for field, column in block.items()
        if len(column)
        for changed in changes(rng, column)
    ]
    for pick in rng.permutation(len(wanted))[:100]:
        number, field, changed = wanted[pick]
        name, block = blocks[number]
        stored(path, [*blocks[:number], (name, {**block, field: changed}), *blocks[number + 1 :]])
        with pytest.raises(CertificateError):
            checked(path, network, false)
        try:
            checked(path, network, prop)
            accepted[field] = accepted.get(field, 0) + 1
        except CertificateError:
            refused[field] = refused.get(field, 0) + 1
    free = {
        "slopes", "fine", "fine_leaf", "multiplier", "weight", "digits", "size", "units", "side",
        "neuron", "sign", "unit", "layer",
    }  # fmt: skip
    assert set(accepted) <= free
    assert sum(refused.values()) > 20


def test_damaged_columns_are_refused_by_the_rule():
    """Columns that do not fit each other, each in its own way."""
    network = network_of(np.random.default_rng(0), (3, 6, 6, 5))
    prop = unsafe_above(network, Box((-1,) * 3, (1,) * 3), 0)
    rng = np.random.default_rng(0)
    case = Checked(network, prop, 0)
    good = random_lemma(rng, case, 1, [[{0: 0}, {0: 1}]])
    for field, value in {
        "layer": [9], "neuron": [99], "side": [2], "leaves": [0], "splits": [1], "unit": [6, 0],
        "sign": [2, 1], "multiplier": [1], "units": [255, 255, 255], "slopes": [1], "fine": [1],
        "fine_leaf": [7],
    }.items():  # fmt: skip
        with pytest.raises(InvalidError):
            lemma(
                Checked(network, prop, 0),
                {**good, field: np.array(value, good[field].dtype)},
                "here",
            )
    for given in (
        {"action": [4]}, {"action": [1]}, {"action": [1], "neuron": [99]}, {"action": [0, 0]},
        {"action": [0]}, {"action": [3]}, {"action": [0], "weight": [-1]},
        {"action": [0], "weight": [1 << 40]}, {"action": [2], "neuron": [0]},
        {"action": [2], "size": [1]}, {"action": [2], "size": [1, 0], "digits": [1]},
        {"action": [2], "size": [1, 1], "digits": [1, 1]},
    ):  # fmt: skip
        with pytest.raises(InvalidError):
            neurons(Checked(network, prop, 0), columns("neurons", **given), "here")


def test_the_rules_are_registered():
    assert RULES["lemma"] is lemma
    assert RULES["neurons"] is neurons


def test_a_sign_is_split_once():
    network = network_of(np.random.default_rng(0), (3, 6, 6, 5))
    case = Checked(network, unsafe_above(network, Box((-1,) * 3, (1,) * 3), 0), 0)
    neurons(case, columns("neurons", action=[1], neuron=[3]), "first")
    assert [n.tolist() for n in (case.stack[-1].number,)] == [[1, 2]]
    assert case.stack[-1].splits == [((0, 3, 1),), ((0, 3, -1),)]
    with pytest.raises(InvalidError, match="already"):
        neurons(case, columns("neurons", action=[1], neuron=[3]), "second")


@pytest.mark.parametrize(("count", "refused"), [(300, False), (1500, True)])
def test_the_table_of_signs_is_bounded(count, refused):
    """A chain of splits: leaf k assumes k + 1 signs, the last one k; 1500 of them are too much."""
    splits = np.array([*range(1, count), count - 1])
    index = np.concatenate([np.arange(n) for n in splits])
    sign = np.ones(len(index), dtype=np.int64)
    sign[np.cumsum(splits[:-1]) - 1] = -1
    goal = np.zeros(count, dtype=np.int64)
    if refused:
        with pytest.raises(InvalidError, match="1500 leaves with the signs of 1499 neurons"):
            _require_partition(goal, splits, index, sign, "here")
    else:
        _require_partition(goal, splits, index, sign, "here")
        sign[0] = 1
        with pytest.raises(InvalidError, match="do not cover"):
            _require_partition(goal, splits, index, sign, "here")


def test_more_bits_than_neurons_are_refused():
    """Bytes beyond the last hidden neuron are not unpacked at all, even if they are 0."""
    network = network_of(np.random.default_rng(0), (2, 5, 1), "dense")
    case = Checked(network, unsafe_above(network, Box((0, 0), (1, 1)), 0), 0)
    columns = {name: np.zeros(0, dtype=np.int64) for name, _ in BLOCKS[5][1]}
    columns |= {"action": np.array([0]), "weight": np.array([1]), "units": np.zeros(2, np.uint8)}
    with pytest.raises(InvalidError, match="2 bytes of 6 bits"):
        neurons(case, columns, "here")
