"""One linear program, solved again and again by HiGHS as its bounds change.

Nothing that comes back from here is trusted: a status, an optimum or a multiplier is a float that
some tolerance accepted. ``verifier.bounds.lp`` turns multipliers into rigorous bounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any

import highspy
import numpy as np

from verifier.core.sparse import sp


class LpStatus(Enum):
    """What HiGHS claims about the last run."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    LIMIT = "limit reached"
    FAILED = "failed"


_STATUS = {
    highspy.HighsModelStatus.kOptimal: LpStatus.OPTIMAL,
    highspy.HighsModelStatus.kInfeasible: LpStatus.INFEASIBLE,
    highspy.HighsModelStatus.kTimeLimit: LpStatus.LIMIT,
    highspy.HighsModelStatus.kIterationLimit: LpStatus.LIMIT,
}


@dataclass(frozen=True, eq=False)
class LpHint:
    """What one run claims; any part may be wrong or missing.

    Args:
        status: the claim.
        detail: HiGHS' own word for it.
        objective: claimed minimum; NaN if there is none.
        primal: (columns,) a point, or None.
        multipliers: (rows,), or None: row duals y where the status is OPTIMAL or LIMIT, a Farkas
            ray where it is INFEASIBLE. In both, y > 0 belongs to the lower side of a row and y < 0
            to its upper side, so that c − Aᵀy are the reduced costs (with c = 0 for a ray).
    """

    status: LpStatus
    detail: str
    objective: float
    primal: np.ndarray | None
    multipliers: np.ndarray | None


def _new_highs() -> Any:
    """A silent HiGHS with the options that every run here shares."""
    highs: Any = highspy.Highs  # its methods come from an extension module without types
    highs = highs()
    highs.setOptionValue("output_flag", False)
    highs.setOptionValue("presolve", "off")
    highs.setOptionValue("parallel", "off")
    # HiGHS refuses a model with entries beyond 1e15 and drops those below 1e-9.
    highs.setOptionValue("large_matrix_value", math.inf)
    highs.setOptionValue("small_matrix_value", 1e-12)
    return highs


class LinearProgram:
    """min c·x subject to row_lower ≤ A x ≤ row_upper, col_lower ≤ x ≤ col_upper, kept in HiGHS.

    The matrix is passed once. Bounds and costs may change between runs, which then start from the
    last basis. Presolve is off, because it loses the Farkas ray.

    Args:
        matrix: (rows, columns) CSR.
        cost: (columns,).
        columns: (lower, upper), each (columns,); infinite where absent.
        rows: (lower, upper), each (rows,); infinite where absent.
    """

    def __init__(
        self,
        matrix: sp.csr_array,
        cost: np.ndarray,
        columns: tuple[np.ndarray, np.ndarray],
        rows: tuple[np.ndarray, np.ndarray],
    ) -> None:
        n_rows, n_columns = matrix.shape
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = n_columns, n_rows
        lp.col_cost_ = np.asarray(cost, np.float64)
        lp.col_lower_, lp.col_upper_ = columns
        lp.row_lower_, lp.row_upper_ = rows
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.num_col_, lp.a_matrix_.num_row_ = n_columns, n_rows
        lp.a_matrix_.start_ = matrix.indptr.astype(np.int32)
        lp.a_matrix_.index_ = matrix.indices.astype(np.int32)
        lp.a_matrix_.value_ = matrix.data
        self._highs: Any = _new_highs()
        self._usable = self._highs.passModel(lp) != highspy.HighsStatus.kError

    def set_columns(self, index: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Replace the bounds of the columns ``index`` (distinct)."""
        self._highs.changeColsBounds(len(index), index.astype(np.int32), lower, upper)

    def set_rows(self, index: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Replace the bounds of the rows ``index`` (distinct)."""
        self._highs.changeRowsBounds(len(index), index.astype(np.int32), lower, upper)

    def set_cost(self, index: np.ndarray, cost: np.ndarray) -> None:
        """Replace the objective coefficients of the columns ``index`` (distinct)."""
        self._highs.changeColsCost(len(index), index.astype(np.int32), cost)

    def solve(self, seconds: float = math.inf, iterations: int | None = None) -> LpHint:
        """Run HiGHS from the last basis.

        Args:
            seconds: wall-clock limit of this run.
            iterations: limit on simplex iterations of this run.
        """
        if not self._usable:
            return LpHint(LpStatus.FAILED, "model refused", math.nan, None, None)
        highs = self._highs
        # HiGHS' clock runs on over all runs of one model.
        highs.setOptionValue("time_limit", highs.getRunTime() + seconds)
        highs.setOptionValue("simplex_iteration_limit", iterations or 2**31 - 1)
        outcome = highs.run()
        model_status = highs.getModelStatus()
        detail = str(highs.modelStatusToString(model_status))
        status = _STATUS.get(model_status, LpStatus.FAILED)
        if outcome == highspy.HighsStatus.kError or status is LpStatus.FAILED:
            # A basis on which HiGHS gave up would only make the next run give up too.
            highs.clearSolver()
            return LpHint(LpStatus.FAILED, detail, math.nan, None, None)
        if status is LpStatus.INFEASIBLE:
            _, has_ray, ray = highs.getDualRay()
            return LpHint(status, detail, math.nan, None, np.array(ray) if has_ray else None)
        solution = highs.getSolution()
        return LpHint(
            status,
            detail,
            float(highs.getObjectiveValue()),
            np.array(solution.col_value) if solution.value_valid else None,
            np.array(solution.row_dual) if solution.dual_valid else None,
        )
