"""What solvers say that compute in floating point when they are given a network as it is.

MILP solvers get the plain big-M model with float64 interval bounds, as verifiers built on them
write it; Marabou, if the environment variable RELUCID_MARABOU names a Python that has maraboupy,
gets the network as its equations and ReLU constraints.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pulp

from tests.float_traps import Trap
from verifier.core.network import Network

MILP_SOLVERS = {"highs": "HiGHS", "cbc": "PULP_CBC_CMD", "scip": "SCIP_PY"}
SAFE, UNSAFE, INFEASIBLE = "safe", "unsafe", "infeasible"
#: HiGHS refuses entries from 1e15 and drops those below 1e-9 unless it is told to take them.
_HIGHS_OPTIONS = {"large_matrix_value": math.inf, "small_matrix_value": 1e-12}
_PROGRAM = Path(__file__).with_name("marabou_program.py")


def right(trap: Trap, answer: str) -> bool | None:
    """Whether an answer is right; None if it is no answer.

    ``infeasible`` is wrong: every input has an output.
    """
    if answer not in (SAFE, UNSAFE, INFEASIBLE):
        return None
    return answer != INFEASIBLE and (answer == UNSAFE) == trap.unsafe


def big_m(network: Network, box: tuple[np.ndarray, np.ndarray]) -> pulp.LpProblem:
    """Maximize the only output; binaries d with a ≤ z − l (1 − d), a ≤ u d, a ≥ z, a ≥ 0."""
    model = pulp.LpProblem("network", pulp.LpMaximize)
    low, high = box
    values: list[pulp.LpVariable | pulp.LpAffineExpression] = [
        model.add_variable(f"x{i}", float(a), float(b))
        for i, (a, b) in enumerate(zip(low, high, strict=True))
    ]
    for k, layer in enumerate(network.layers):
        w, b = layer.dense, layer.bias
        positive, negative = np.maximum(w, 0), np.minimum(w, 0)
        z_low, z_high = positive @ low + negative @ high + b, positive @ high + negative @ low + b
        z = [
            pulp.lpSum(float(c) * v for c, v in zip(row, values, strict=True) if c) + float(bias)
            for row, bias in zip(w, b, strict=True)
        ]
        values = [
            _relu(model, f"{k}_{i}", z[i], float(z_low[i]), float(z_high[i]))
            if layer.relu[i]
            else z[i]
            for i in range(len(z))
        ]
        low = np.where(layer.relu, np.maximum(z_low, 0), z_low)
        high = np.where(layer.relu, np.maximum(z_high, 0), z_high)
    model.setObjective(values[0])
    return model


def _relu(
    model: pulp.LpProblem, name: str, z: pulp.LpAffineExpression, low: float, high: float
) -> pulp.LpVariable:
    """A variable that is relu(z)."""
    a = model.add_variable(f"a{name}", 0, 0 if high <= 0 else None)
    if low >= 0:
        model.addConstraint(a == z)
    elif high > 0:
        d = model.add_variable(f"d{name}", cat=pulp.LpBinary)
        model.addConstraint(a >= z)
        model.addConstraint(a <= z - low * (1 - d))
        model.addConstraint(a <= high * d)
    return a


def ask_milp(trap: Trap, solver: str, seconds: float = 10) -> str:
    """``safe``, ``unsafe``, ``infeasible``, or that it does not know.

    An optimum counts by its sign, and only if the solver claims to have proved it.
    """
    model = big_m(trap.network, trap.box.outward())
    options = _HIGHS_OPTIONS if solver == "highs" else {}
    try:
        model.solve(pulp.getSolver(MILP_SOLVERS[solver], msg=False, timeLimit=seconds, **options))
    except Exception as error:
        # pyscipopt reports numerical trouble as a bare Exception, of no narrower type; PuLP looks
        # for a solution where HiGHS refused the model.
        if type(error) not in (Exception, pulp.PulpSolverError, IndexError):
            raise
        return "no answer"
    if model.sol_status == pulp.LpSolutionInfeasible:
        return INFEASIBLE
    if model.sol_status != pulp.LpSolutionOptimal:
        return "no answer"
    value = pulp.value(model.objective)
    if value is None or not math.isfinite(value):
        return "no answer"
    return UNSAFE if value >= 0 else SAFE


def marabou_python() -> str | None:
    """The Python that has maraboupy, if one was named."""
    return os.environ.get("RELUCID_MARABOU") or None


def ask_marabou(python: str, some: Sequence[Trap], seconds: int = 10) -> list[str]:
    """Marabou's answers, from one process in its own environment.

    Args:
        python: an interpreter that can import maraboupy.
        some: the questions.
        seconds: for each of them.
    """
    questions = []
    for trap in some:
        low, high = trap.box.outward()
        layers = [[y.dense.tolist(), y.bias.tolist(), y.relu.tolist()] for y in trap.network.layers]
        questions.append({"low": low.tolist(), "high": high.tolist(), "layers": layers})
    done = subprocess.run(
        [python, str(_PROGRAM), str(seconds)],
        input=json.dumps(questions), capture_output=True, text=True, check=True,
        timeout=60 + 2 * seconds * len(questions),
    )  # fmt: skip
    words = {"unsat": SAFE, "sat": UNSAFE}
    answers = [line.split(" ", 1)[1] for line in done.stdout.splitlines() if line[:2] == "= "]
    if len(answers) != len(some):
        raise RuntimeError(f"{len(some)} questions, {len(answers)} answers: {done.stderr[-500:]}")
    return [words.get(answer, answer.lower()) for answer in answers]
