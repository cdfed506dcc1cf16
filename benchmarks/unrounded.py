"""A copy of the verifier without its rounding error terms, to measure what they cost.

Its bounds are not rigorous and its answers are worth nothing: it exists only in a folder of the
benchmark, and the product has no such mode. In the compiled kernels and the backward pass every
rounding quantity (magnitudes that are carried along, unit roundoff, allowances for underflow, the
layers' own rounding) is taken as 0, and everything that is then multiplied by it or added with it
is left out of the source before it is compiled. The same for the room that proofs ask for.
"""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "verifier"
SOURCES = (
    "bounds/box_kernels.py",
    "bounds/kernels.py",
    "bounds/linear.py",
    "bounds/reduced_kernels.py",
    "search/cut_kernel.py",
    "search/input_split_kernel.py",
)
#: What is 0 without rounding: variables, and attributes of whatever.
NAMES = {"UNIT", "TINY", "CHORD", "mag", "sizes", "relaxed"}
ATTRIBUTES = {"own", "underflow", "_underflow"}


class Without(ast.NodeTransformer):
    """Takes rounding quantities as 0 in sums and products, and leaves out what that makes idle.

    Attributes:
        removed: statements left out.
        zeros: rounding quantities met in arithmetic.
    """

    def __init__(self) -> None:
        self.removed = self.zeros = 0
        self.inside = False

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.stmt:
        """Compiled functions, and what ends a pass; not proposals, which have no error terms."""
        compiled = any(ast.unparse(d) == "jit" for d in node.decorator_list)
        if node.name == "conclude" or (compiled and not node.name.startswith("proposed_")):
            self.inside = True
            self.generic_visit(node)
            self.inside = False
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        """0 + x, x - 0, 0 * x, 0 / x."""
        self.generic_visit(node)
        if not self.inside:
            return node
        left, right = self._zero(node.left), self._zero(node.right)
        if isinstance(node.op, ast.Add) and (left or right):
            return node.right if left else node.left
        if isinstance(node.op, ast.Sub) and right:
            return node.left
        if isinstance(node.op, ast.Mult) and (left or right):
            return ast.Constant(0.0)
        return ast.Constant(0.0) if isinstance(node.op, ast.Div) and left else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.stmt | None:
        """Nothing is added to what is not needed, and no 0 to anything."""
        self.generic_visit(node)
        idle = isinstance(node.op, (ast.Add, ast.Sub)) and self._zero(node.value)
        return self._dropped() if self.inside and (idle or _rounding(node.target)) else node

    def visit_Assign(self, node: ast.Assign) -> ast.stmt | None:
        """What is not needed is not computed."""
        self.generic_visit(node)
        return self._dropped() if self.inside and _rounding(node.targets[0]) else node

    def _zero(self, node: ast.expr) -> bool:
        """Whether this is a rounding quantity, or was found to be 0."""
        if _rounding(node):
            self.zeros += 1
            return True
        return isinstance(node, ast.Constant) and node.value == 0.0

    def _dropped(self) -> ast.stmt:
        self.removed += 1
        return ast.Pass()


def _rounding(node: ast.expr) -> bool:
    """Whether a place holds a rounding quantity, or entries of one."""
    if isinstance(node, ast.Subscript):
        node = node.value
    if isinstance(node, ast.Attribute):
        return node.attr in ATTRIBUTES and isinstance(node.ctx, ast.Load)
    return isinstance(node, ast.Name) and node.id in NAMES


def without_rounding(source: str) -> tuple[str, int]:
    """The source without error terms, and how many statements and operands were left out."""
    change = Without()
    tree = ast.fix_missing_locations(change.visit(ast.parse(source)))
    return ast.unparse(tree) + "\n", change.removed + change.zeros


def build(folder: Path) -> Path:
    """The copy, in ``folder``/verifier; kernels that were compiled from the same source are kept.

    Returns:
        what to put on PYTHONPATH.

    Raises:
        ValueError: a source has no error terms any more: the list above is out of date.
    """
    kept = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, folder / "verifier", ignore=kept, dirs_exist_ok=True)
    for name in SOURCES:
        text, changes = without_rounding((PACKAGE / name).read_text())
        if not changes:
            raise ValueError(f"{name}: no error term found to leave out")
        (folder / "verifier" / name).write_text(text)
    return folder
