"""VNN-LIB readers against direct evaluation of the same formulas, and against z3."""

import contextlib
import gzip
import hashlib
import itertools
import operator
import random
import re
from fractions import Fraction

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from tests.stopwatch import within
from verifier.core.errors import ExportError, PropertyError
from verifier.core.verdict import Replay, Witness
from verifier.io import normal_form
from verifier.io.vnnlib import (
    Tensor,
    counterexample_text,
    load_property,
    parse_property,
    read_property,
)

N_INPUTS, N_OUTPUTS = 2, 2
GRID = [Fraction(k, 2) for k in range(-2, 3)]

HEAD1 = (
    "; comment with (parentheses\n(declare-const Y_1 Real)(declare-const X_1 Real)\n"
    "(declare-fun X_0 () Real)\n(declare-const Y_0 Real)\n"
)
HEAD2 = (
    "; comment\n(vnnlib-version <2.0>)\n(declare-network N\n (declare-input X float32 [1,2])\n"
    " (declare-output Y float32 [2,1]))\n"
)
NAMES1 = {"x0": "X_0", "x1": "X_1", "y0": "Y_0", "y1": "Y_1"}
NAMES2 = {"x0": "X[0,0]", "x1": "X[0,1]", "y0": "Y[0,0]", "y1": "Y[1,0]"}

# Formulas are tuples (operator, operand...), variables are strings, numbers are Fractions: a form
# that shares nothing with the reader's.

numbers = st.sampled_from(GRID)
variables = st.sampled_from(sorted(NAMES1))
linear = st.recursive(
    numbers | variables,
    lambda e: st.one_of(
        st.tuples(st.just("+"), e, e),
        st.tuples(st.just("+"), e, e, e),
        st.tuples(st.just("-"), e),
        st.tuples(st.just("-"), e, e),
        st.tuples(st.just("*"), numbers, e),
        st.tuples(st.just("*"), e, numbers),
    ),
    max_leaves=4,
)
simple = st.tuples(st.sampled_from(["<=", ">=", "<", ">"]), variables, numbers)


def comparisons(names, chains):
    pair = st.tuples(st.sampled_from(names), linear, linear)
    if not chains:
        return simple | pair
    return simple | pair | st.tuples(st.sampled_from(["<=", "<", ">", "="]), linear, linear, linear)


def formulas(atoms, negations):
    def extend(f):
        many = [
            st.lists(f, min_size=1, max_size=3).map(lambda p, k=k: (k, *p)) for k in ("and", "or")
        ]
        if negations:
            many += [st.tuples(st.just("not"), f), st.tuples(st.just("=>"), f, f)]
        return st.one_of(many)

    return st.recursive(atoms, extend, max_leaves=6)


formulas1 = formulas(comparisons(["<=", ">=", "<", ">", "=", "==", "!=", "distinct"], True), True)
formulas2 = formulas(comparisons(["<=", ">=", "<", ">", "==", "!="], False), False)

COMPARE = {
    "<=": operator.le,
    ">=": operator.ge,
    "<": operator.lt,
    ">": operator.gt,
    "=": operator.eq,
    "==": operator.eq,
    "!=": operator.ne,
    "distinct": operator.ne,
}


def value(expression, point):
    """The number or truth value of a formula at a point, by its plain meaning."""
    if isinstance(expression, str):
        return point[expression]
    if isinstance(expression, Fraction):
        return expression
    head, *operands = expression
    v = [value(o, point) for o in operands]
    if head == "+":
        return sum(v)
    if head == "*":
        return v[0] * v[1]
    if head == "-":
        return -v[0] if len(v) == 1 else v[0] - v[1]
    if head in COMPARE:
        return all(COMPARE[head](a, b) for a, b in itertools.pairwise(v))
    if head == "not":
        return not v[0]
    if head == "=>":
        return not v[0] or v[1]
    return all(v) if head == "and" else any(v)


def number1(number, rng):
    """One of the ways to write a number in 1.0."""
    positive = {Fraction(0): "0.0", Fraction(1, 2): "0.5", Fraction(1): "1"}[abs(number)]
    if rng.random() < 0.3:
        exponent = {"0.0": "0e3", "0.5": "5E-1", "1": ".1e+1"}[positive]
        positive = rng.choice([exponent, f"(/ {abs(number.numerator)} {number.denominator})"])
    if number >= 0:
        return positive
    return f"(- {positive})" if positive[0] == "(" or rng.random() < 0.5 else f"-{positive}"


def number2(number, rng):
    """One of the ways to write a number in 2.0."""
    positive = f"{float(abs(number)):.{rng.randint(1, 3)}f}"
    return positive if number >= 0 else rng.choice([f"(- {positive})", f"-{positive}"])


def render(expression, names, number, rng):
    """The formula as text."""
    if isinstance(expression, str):
        return names[expression]
    if isinstance(expression, Fraction):
        return number(expression, rng)
    space = rng.choice([" ", "\n  ", " ; (or\n"])
    return (
        f"({space.join([expression[0], *(render(o, names, number, rng) for o in expression[1:])])})"
    )


def bounded(formula):
    """The formula together with a box."""
    faces = [f for v in ("x0", "x1") for f in ((">=", v, Fraction(-1)), ("<=", v, Fraction(1)))]
    return ("and", *faces, formula)


def parse_or_empty(text):
    """The property, or None where the reader says that nothing satisfies it."""
    try:
        return parse_property(text, n_inputs=N_INPUTS, n_outputs=N_OUTPUTS).prop
    except PropertyError as error:
        if "the property is empty" not in str(error):
            raise
        return None


def check_same_set(text, formula, seed):
    """The parsed property and the formula agree at random grid points (two of them off the box)."""
    rng = random.Random(seed)
    values = [*GRID, Fraction(-3, 2), Fraction(1, 3)]
    points = [{v: rng.choice(values) for v in NAMES1} for _ in range(60)]
    expected = [value(formula, p) for p in points]
    prop = parse_or_empty(text)
    if prop is None:
        assert not any(expected)
        return
    for point, unsafe in zip(points, expected, strict=True):
        x, y = (point["x0"], point["x1"]), (point["y0"], point["y1"])
        assert (prop.violation(x, y) is not None) == unsafe, (text, point)
    assert len({(c.box.lower, c.box.upper) for c in prop.cases}) == len(prop.cases)


@settings(max_examples=200, deadline=None)
@given(st.lists(formulas1, min_size=1, max_size=3), st.integers(0, 2**32))
def test_version_1_means_what_it_says(parts, seed):
    rng = random.Random(seed)
    whole = bounded(("and", *parts))
    assertions = whole[1:5] + tuple(parts) if seed % 2 else (whole,)
    text = HEAD1 + "".join(f"(assert {render(a, NAMES1, number1, rng)})\n" for a in assertions)
    check_same_set(text, whole, seed)


@settings(max_examples=200, deadline=None)
@given(st.lists(formulas2, min_size=1, max_size=3), st.integers(0, 2**32))
def test_version_2_means_what_it_says(parts, seed):
    rng = random.Random(seed)
    whole = bounded(("and", *parts))
    text = HEAD2 + "".join(f"(assert {render(a, NAMES2, number2, rng)})\n" for a in whole[1:])
    check_same_set(text, whole, seed)


@settings(max_examples=40, deadline=None)
@given(
    formulas(comparisons(["<=", ">=", "<", ">", "=", "distinct"], True), True),
    st.integers(0, 2**32),
)
def test_version_1_agrees_with_z3_which_reads_the_same_text(formula, seed):
    z3 = pytest.importorskip("z3")
    rng = random.Random(seed)

    def plain(number, _):
        return f"{float(number):.1f}" if number >= 0 else f"(- {float(-number):.1f})"

    text = HEAD1 + f"(assert {render(bounded(formula), NAMES1, plain, rng)})"
    assertion = z3.And(*z3.parse_smt2_string(text))
    prop = parse_or_empty(text)
    if prop is None:
        solver = z3.Solver()
        solver.add(assertion)
        assert solver.check() == z3.unsat
        return
    for _ in range(10):
        point = {name: rng.choice(GRID) for name in NAMES1}
        pairs = [(z3.Real(NAMES1[n]), z3.RealVal(str(v))) for n, v in point.items()]
        unsafe = z3.is_true(z3.simplify(z3.substitute(assertion, *pairs)))
        x, y = (point["x0"], point["x1"]), (point["y0"], point["y1"])
        assert (prop.violation(x, y) is not None) == unsafe


BOX1 = HEAD1 + "(assert (<= -1 X_0 1))(assert (<= -1 X_1 1))"


def parse1(assertions, head=BOX1):
    return parse_property(head + assertions, n_inputs=2, n_outputs=2, name="f.vnnlib").prop


def test_decimals_are_exact_rationals():
    prop = parse1(
        "(assert (<= X_0 0.1))(assert (>= X_0 1e-5))(assert (>= Y_0 0.30000000000000004))"
    )
    (case,) = prop.cases
    assert case.box.upper[0] == Fraction(1, 10)
    assert case.box.lower[0] == Fraction(1, 100000)
    assert case.clauses[0][0].bound == Fraction("0.30000000000000004") != Fraction(0.1 + 0.2)


def test_disjuncts_are_grouped_by_their_box():
    halves = "(or (and (<= X_0 0) (>= X_0 -1)) (and (>= X_0 0) (<= X_0 1)))"
    prop = parse1(
        f"(assert {halves})(assert (or (>= Y_0 1) (>= Y_1 1) (and (>= Y_0 0) (> Y_1 0))))"
    )
    assert [len(c.clauses) for c in prop.cases] == [3, 3]
    assert [c.box.lower[0] for c in prop.cases] == [-1, 0]
    assert not prop.mixes_inputs


def test_a_strict_face_keeps_the_closed_box_and_the_strictness():
    prop = parse1("(assert (< X_0 0.5))(assert (>= Y_0 0))")
    (case,) = prop.cases
    assert case.box.upper[0] == Fraction(1, 2)
    assert prop.mixes_inputs
    assert prop.violation((Fraction(1, 2), Fraction(0)), (Fraction(1), Fraction(0))) is None
    assert prop.violation((Fraction(49, 100), Fraction(0)), (Fraction(1), Fraction(0))) == (0, 0)


def test_a_strict_face_that_another_face_makes_idle_does_not_mix_inputs():
    assert not parse1("(assert (< X_0 2))(assert (>= Y_0 0))").mixes_inputs


def test_a_disjunct_with_an_empty_box_is_left_out():
    prop = parse1("(assert (or (and (>= X_0 2) (>= Y_0 0)) (>= Y_1 0)))")
    assert [len(c.clauses) for c in prop.cases] == [1]


def test_nesting_is_limited_by_the_file_only():
    deep = "(+ 0.5 " * 20_000 + "Y_0" + ")" * 20_000
    (case,) = parse1(f"(assert (<= {deep} 0))").cases
    assert case.clauses[0][0].bound == 10_000
    flips = "(not " * 20_001 + "(>= Y_0 0)" + ")" * 20_001
    (case,) = parse1(f"(assert {flips})").cases
    assert case.clauses[0][0].strict


def test_a_large_file_is_read_in_seconds():
    n = 20_000
    declared = "".join(f"(declare-const X_{i} Real)\n" for i in range(n))
    bounds = "".join(f"(assert (>= X_{i} -0.{i}))(assert (<= X_{i} {i}.5))\n" for i in range(n))
    text = f"{declared}(declare-const Y_0 Real){bounds}(assert (>= Y_0 0))"
    with within(10, cores=1):
        prop = parse_property(text, n_inputs=n, n_outputs=1).prop
    assert prop.cases[0].box.upper[n - 1] == Fraction(2 * n - 1, 2)


def test_ten_disjuncts_over_784_inputs_make_one_case():
    n = 784
    declared = "".join(
        f"(declare-const {v} Real)" for v in [f"X_{i}" for i in range(n)] + ["Y_0", "Y_1"]
    )
    bounds = "".join(f"(<= 0 X_{i} 0.5)" for i in range(n))
    text = f"{declared}(assert (or (and {bounds} (>= Y_0 1)) (and {bounds} (>= Y_1 1))))"
    prop = parse_property(text, n_inputs=n, n_outputs=2).prop
    assert [len(c.clauses) for c in prop.cases] == [2]


def test_too_many_clauses_are_refused_with_their_number():
    pairs = "".join(f"(assert (or (>= Y_0 {k}) (>= Y_1 {k})))" for k in range(40))
    message = rf"at least 131072 clauses .*{normal_form.MAX_CLAUSES}"
    with within(5, cores=1), pytest.raises(PropertyError, match=message):
        parse1(pairs)


def test_gzip_and_hash_are_of_the_text(tmp_path):
    text = BOX1 + "(assert (>= Y_0 0))"
    plain, packed = tmp_path / "p.vnnlib", tmp_path / "p.vnnlib.gz"
    plain.write_text(text)
    packed.write_bytes(gzip.compress(text.encode()))
    first = read_property(plain, n_inputs=2, n_outputs=2)
    second = read_property(packed, n_inputs=2, n_outputs=2)
    assert first.sha256 == second.sha256 == hashlib.sha256(text.encode()).hexdigest()
    assert first.prop.cases == second.prop.cases
    assert first.version == "1.0"
    assert load_property(plain, n_inputs=2, n_outputs=2) == first.prop


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_comment_ends_with_its_line_however_lines_end(end):
    for text, extra in ((BOX1, "(assert (>= Y_0 0.5))"), (BOX2, "(assert (>= Y[0,0] 0.5))")):
        lines = f"{text}\n; a comment\n{extra}\n; (assert false)\n".replace("\n", end)
        (case,) = parse_property(lines, n_inputs=2, n_outputs=2).prop.cases
        assert case.clauses[0][0].bound == Fraction(1, 2)


def test_version_2_numbers_tensors_in_row_major_order():
    head = HEAD2.replace("[1,2]", "[2,3]")
    bounds = "".join(
        f"(assert (>= X[{i},{j}] {i}.{j}))(assert (<= X[{i},{j}] 9.0))"
        for j in range(3)
        for i in range(2)
    )
    file = parse_property(head + bounds + "(assert (>= Y[1,0] 0.0))", n_inputs=6, n_outputs=2)
    assert file.version == "2.0"
    assert file.input == Tensor("X", "float32", (2, 3))
    (case,) = file.prop.cases
    assert case.box.lower == tuple(Fraction(k, 10) for k in (0, 1, 2, 10, 11, 12))
    assert case.clauses[0][0].terms == ((1, 1),)


# Rejections ------------------------------------------------------------------------------------

BAD1 = {
    "unbalanced open": ("(assert (>= Y_0 0)", r"f\.vnnlib:5:45: '\(' is never closed"),
    "unbalanced close": ("(assert (>= Y_0 0)))", r"f\.vnnlib:5:64: '\)' without '\('"),
    "no operator": ("(assert ((>= Y_0 0)))", "expected an operator, found '\\('"),
    "empty operator": ("(assert ())", r"expected an operator, found '\(\)'"),
    "empty command": ("()", r"expected a command, found '\(\)'"),
    "loose word": ("hello", r"f\.vnnlib:5:45: expected '\(', found 'hello'"),
    "unknown command": ("(define-fun f () Real 0)", "unknown command 'define-fun'"),
    "unknown operator": ("(assert (ite true true true))", "5:53: unknown operator 'ite'"),
    "unknown variable": ("(assert (>= Z_0 0))", "5:57: expected a number or a variable .*'Z_0'"),
    "undeclared": ("(assert (>= Y_7 0))", "variable Y_7 is used before it is declared"),
    "beyond the network": (
        "(declare-const X_2 Real)",
        "X_2 is declared, but the network has 2 inputs",
    ),
    "huge index": (f"(declare-const Y_{'9' * 5000} Real)", "the network has 2 outputs"),
    "twice": ("(declare-const X_1 Real)", "X_1 is declared twice"),
    "wrong sort": ("(declare-const Y_2 Int)", "'Int'; only Real"),
    "wrong name": ("(declare-const Z Real)", "called X_i or Y_i"),
    "bad declaration": ("(declare-const Y_1)", r"expected \(declare-const NAME Real\)"),
    "NaN": ("(assert (>= Y_0 NaN))", "NaN is not a finite number"),
    "infinity": ("(assert (>= Y_0 -inf))", "-inf is not a finite number"),
    "huge exponent": ("(assert (>= Y_0 1e999999999))", "more than 1000 digits"),
    "many digits": (f"(assert (>= Y_0 {'1' * 5000}))", "more than 1000 digits"),
    "growing product": ("(assert (>= Y_0 (*" + " 1e900" * 20 + ")))", "more than 13000 bits"),
    "product": ("(assert (>= (* X_0 Y_0) 0))", "5:57: not linear: a product of variables"),
    "division": ("(assert (>= (/ 1 Y_0) 0))", "not linear: a division by a variable"),
    "by zero": ("(assert (>= (/ Y_0 0.0) 0))", "division by zero"),
    "number as formula": ("(assert (and Y_0 1))", "'and' takes true-or-false formulas"),
    "formula as number": ("(assert (<= (<= Y_0 1) 1))", "'<=' takes numbers"),
    "assert number": ("(assert Y_0)", "assert takes exactly one true-or-false formula"),
    "assert nothing": ("(assert)", "assert takes exactly one"),
    "one operand": ("(assert (<= Y_0))", "'<=' needs at least 2 operands"),
    "no operand": ("(assert (<= (+) 0))", r"'\+' needs operands"),
    "not of two": ("(assert (not true true))", "'not' takes exactly 1 operand, got 2"),
    "implies of one": ("(assert (=> true))", "'=>' needs at least 2"),
    "distinct of three": ("(assert (distinct 1 2 Y_0))", "takes exactly 2 operands, got 3"),
    "empty box": ("(assert (>= X_0 2))", "f.vnnlib: the property is empty"),
    "empty by strictness": ("(assert (> X_0 1))", "the property is empty"),
    "false": ("(assert false)", "the property is empty"),
    "after the question": (
        "(assert (>= Y_0 0))(check-sat)(get-model)(assert (>= Y_1 0))",
        r"f\.vnnlib:5:86: \(assert \.\.\.\) after \(check-sat\)",
    ),
    "after the end": ("(exit)(assert (>= Y_0 0))", r"\(assert \.\.\.\) after \(exit\)"),
}


@pytest.mark.parametrize("name", BAD1)
def test_version_1_rejects(name):
    text, message = BAD1[name]
    with pytest.raises(PropertyError, match=message):
        parse1(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            HEAD1 + "(assert (>= Y_0 0))",
            r"input X_0 has no lower bound \(nor have 1 other inputs\)",
        ),
        (HEAD1 + "(assert (<= -1 X_0 1))(assert (>= X_1 0))", "input X_1 has no upper bound"),
        (HEAD1.replace("(declare-const Y_0 Real)", ""), "Y_0 is not declared"),
        (HEAD1, "the file has no"),
        ("(set-logic QF_LRA)(set-info :a (b c))", "X_0 is not declared"),
        ("(vnnlib-version <2.0>", "property:1:17: syntax error"),
    ],
)
def test_whole_files_are_rejected(text, message):
    with pytest.raises(PropertyError, match=message):
        parse_property(text, n_inputs=2, n_outputs=2)


BOX2 = HEAD2 + "".join(
    f"(assert (>= {NAMES2[v]} -1.0))(assert (<= {NAMES2[v]} 1.0))" for v in ("x0", "x1")
)
GOOD2 = BOX2 + "\n(assert (>= Y[0,0] 0.0))"
BAD2 = {
    "truncated": (GOOD2[:-1], r"f\.vnnlib:7:22: syntax error"),
    "unknown variable": (GOOD2.replace("Y[0,0]", "Z[0,0]"), r"f\.vnnlib:7: Undeclared variable: Z"),
    "index": (GOOD2.replace("Y[0,0]", "Y[2,0]"), r"f\.vnnlib:7: Index out of bounds.*Y\[2,0\]"),
    "negative index": (GOOD2.replace("Y[0,0]", "Y[-1,0]"), r"f\.vnnlib:7:14: expected \[i,j"),
    "fractional index": (GOOD2.replace("Y[0,0]", "Y[0.5,0]"), r"7:14: expected .*'\[0\.5,0\]'"),
    "huge index": (GOOD2.replace("Y[0,0]", f"Y[{'9' * 30},0]"), "cannot parse this text"),
    "huge shape": (GOOD2.replace("[1,2]", f"[{'9' * 30}]"), "cannot parse this text"),
    "half character": (GOOD2.replace("Y[0,0]", "é"), "cannot parse this text|syntax error"),
    "dimension": (GOOD2.replace("Y[0,0]", "Y[0]"), r"f\.vnnlib:7: "),
    "NaN": (GOOD2.replace("0.0))", "nan))"), "f.vnnlib:7: Undeclared variable: nan"),
    "product": (GOOD2.replace("(>= Y[0,0]", "(>= (* Y[0,0] X[0,0])"), "f.vnnlib:7: not linear"),
    "type": (
        GOOD2.replace("Y float32", "Y int64").replace("(>= Y[0,0] 0.0)", "(>= Y[0,0] 0)"),
        "I64",
    ),
    "shape": (GOOD2.replace("[2,1]", "[3,1]"), r"shape \[3, 1\], but the network has 2 outputs"),
    "two inputs": (
        GOOD2.replace("[1,2])", "[1,2]) (declare-input U float32 [1])"),
        "exactly one input",
    ),
    "two networks": (
        GOOD2.replace(
            "(assert",
            "(declare-network M (declare-input U float32 [1])"
            " (declare-output V float32 [1]))(assert",
            1,
        ),
        "exactly one network is supported, this file declares 2",
    ),
    "hidden": (
        GOOD2.replace("[1,2])", '[1,2]) (declare-hidden H float32 [1] "h")'),
        "hidden nodes are not supported",
    ),
    "no bound": (HEAD2 + "(assert (>= Y[0,0] 0.0))", "input X_0 has no lower bound"),
    "empty box": (GOOD2 + "(assert (>= X[0,0] 2.0))", "the property is empty"),
    "deep": (
        BOX2 + "(assert (>= " + "(+ 1.0 " * 600 + "Y[0,0]" + ")" * 600 + " 0.0))",
        "deeper than 500",
    ),
}


@pytest.mark.parametrize("name", BAD2)
def test_version_2_rejects(name):
    text, message = BAD2[name]
    with pytest.raises(PropertyError, match=message):
        parse_property(text, n_inputs=2, n_outputs=2, name="f.vnnlib")


def test_version_2_sample_is_accepted_before_it_is_broken():
    assert len(parse_property(GOOD2, n_inputs=2, n_outputs=2).prop.cases) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty"),
        (b" \n\t ", "the file is empty"),
        (b"\x89PNG\r\n\x1a\n" + bytes(range(256)), "not a text file"),
        (GOOD2.encode() + b"\0(assert (<= Y[0,0] -5.0))", r"not a text file \(byte \d+ is zero\)"),
        (gzip.compress(GOOD2.encode(), mtime=0)[:-10], "damaged or truncated gzip"),
        (b"\x1f\x8bnonsense", "damaged or truncated gzip"),
    ],
)
def test_files_that_hold_no_text_are_rejected(tmp_path, data, message):
    path = tmp_path / "bad.vnnlib"
    path.write_bytes(data)
    with pytest.raises(PropertyError, match=message) as caught:
        load_property(path, n_inputs=2, n_outputs=2)
    assert str(path) in str(caught.value)


def test_paths_that_cannot_be_read_are_rejected(tmp_path):
    with pytest.raises(PropertyError, match="cannot be read: No such file"):
        load_property(tmp_path / "none.vnnlib", n_inputs=2, n_outputs=2)
    with pytest.raises(PropertyError, match="cannot be read: Is a directory"):
        load_property(tmp_path, n_inputs=2, n_outputs=2)
    (tmp_path / "p.vnnlib.gz").write_text(GOOD2)
    with pytest.raises(PropertyError, match="the name says gzip"):
        load_property(tmp_path / "p.vnnlib.gz", n_inputs=2, n_outputs=2)


def test_a_gzip_bomb_is_cut_at_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr("verifier.io.vnnlib.MAX_BYTES", 10_000)
    path = tmp_path / "bomb.vnnlib.gz"
    path.write_bytes(gzip.compress(b";" * 10_001))
    with pytest.raises(PropertyError, match="larger than the limit of 10000 bytes"):
        load_property(path, n_inputs=2, n_outputs=2)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_damaged_texts_never_end_in_another_error(data):
    text = data.draw(
        st.sampled_from([GOOD2, BOX1 + "(assert (or (>= Y_0 0) (< (+ X_0 Y_1) -0.5)))"])
    )
    position = data.draw(st.integers(0, len(text)))
    length = data.draw(st.integers(0, 3))
    noise = data.draw(st.text("()XY_[],0123456789.-<>=e \n;+*", max_size=3))
    damaged = text[:position] + noise + text[position + length :]
    with contextlib.suppress(PropertyError):
        assert parse_property(damaged, n_inputs=2, n_outputs=2).prop.cases


# Counterexamples ---------------------------------------------------------------------------------


def witness(x, y, replay=None):
    return Witness(tuple(map(Fraction, x)), tuple(map(Fraction, y)), 0, 0, replay)


def read_back(text):
    return {name: Fraction(number) for name, number in re.findall(r"\((\w+) (\S+?)\)", text)}


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=4))
def test_counterexample_inputs_read_back_exactly(x):
    values = read_back(counterexample_text(witness(x, [Fraction(1, 3)])))
    assert [values[f"X_{i}"] for i in range(len(x))] == [Fraction(v) for v in x]
    assert float(values["Y_0"]) == 1 / 3


def test_counterexample_form_of_1_0():
    assert counterexample_text(witness(["0.1", "-3", "1/8"], ["2", "1/2"])) == (
        "((X_0 0.1)\n(X_1 -3.0)\n(X_2 0.125)\n(Y_0 2.0)\n(Y_1 0.5))\n"
    )


def test_a_violating_replay_is_what_is_written():
    x32, y32 = np.float32(0.1), np.float32(0.7)
    replay = Replay((float(x32),), (float(y32),), True)
    values = read_back(counterexample_text(witness(["0.1"], ["0.7"], replay)))
    assert values == {"X_0": Fraction(float(x32)), "Y_0": Fraction(float(y32))}


def test_a_replay_that_does_not_violate_is_not_written():
    replay = Replay((0.25,), (0.25,), False)
    assert "0.25" not in counterexample_text(witness(["0.1"], ["0.7"], replay))


def test_counterexample_form_of_2_0():
    text = counterexample_text(
        witness(["0.1", "-3"], ["2"]),
        "2.0",
        tensors=(Tensor("img", "float32", (1, 2)), Tensor("out", "float32", (1,))),
    )
    assert text == "img float32 [1,2]\n0.1\n-3.0\nout float32 [1]\n2.0\n"


def test_counterexamples_that_cannot_be_written():
    with pytest.raises(ExportError, match=r"X_0 = 0\.333.* is not a finite decimal"):
        counterexample_text(witness(["1/3"], ["0"]))
    with pytest.raises(ExportError, match="more than 4000 digits"):
        counterexample_text(witness([Fraction(1, 2**5000)], ["0"]))
    with pytest.raises(ExportError, match="unknown VNN-LIB version"):
        counterexample_text(witness(["0"], ["0"]), "3.0")


def test_huge_outputs_are_written_as_finite_numbers():
    values = read_back(counterexample_text(witness(["0"], [Fraction(-(10**400))])))
    assert float(values["Y_0"]) == -np.finfo(np.float64).max
