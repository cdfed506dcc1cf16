"""VNN-LIB 2.0: parsed by the official ``vnnlib`` package, evaluated here.

Only the syntax tree and the text of each literal are taken from the package. Its float values and
its own normal forms are not exact and are not used.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

from verifier.core.errors import PropertyError
from verifier.io.formula import ONE, Expression, Formula, Linear, apply, decimal

MAX_DEPTH = 500
"""The package parses recursively, and a crash of its compiled code would end the process."""

_DTYPES = {"F32": "float32", "F64": "float64", "Real": "real"}

_OPERATORS = {
    "Plus": "+",
    "Minus": "-",
    "Negate": "-",
    "Multiply": "*",
    "LessThan": "<",
    "LessEqual": "<=",
    "GreaterThan": ">",
    "GreaterEqual": ">=",
    "Equal": "==",
    "NotEqual": "!=",
    "And": "and",
    "Or": "or",
}


@dataclass(frozen=True)
class Tensor:
    """A declared input or output.

    Args:
        name: as declared.
        dtype: float32, float64 or real.
        shape: its dimensions; elements are numbered in row-major order.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]


def read_query(
    text: str, *, n_inputs: int, n_outputs: int, name: str
) -> tuple[list[Formula], Tensor, Tensor]:
    """The assertions of a VNN-LIB 2.0 text about one network, with its input and output.

    Raises:
        PropertyError: a syntax error, a type error, a feature without an exact meaning here
            (several networks, several inputs or outputs, hidden nodes, other element types,
            products of variables), or sizes that do not fit the network; with the line, and
            the column where the package tells it.
    """
    _check_before_parsing(text, name)
    import vnnlib

    try:
        query = vnnlib.parse_query_string(text)
    except vnnlib.VNNLibException as problem:
        _fail(name, *_located(str(problem)))
    except (IndexError, ValueError, RuntimeError) as problem:
        # Numbers beyond 64 bits and half characters pass through its C++ code like this.
        _fail(name, "", f"the vnnlib package cannot parse this text ({problem})")
    if len(query.networks) != 1:
        _fail(
            name, "", f"exactly one network is supported, this file declares {len(query.networks)}"
        )
    network = query.networks[0]
    if network.hidden:
        _fail(name, "", f"hidden node {network.hidden[0].name!r}: hidden nodes are not supported")
    source = _tensor(network.inputs, "input", n_inputs, name)
    target = _tensor(network.outputs, "output", n_outputs, name)
    offsets = {source.name: (n_outputs, source.shape), target.name: (0, target.shape)}
    formulas = [_evaluate(a.expr, offsets, name) for a in query.assertions]
    if not formulas:
        _fail(name, "", "the file has no (assert ...)")
    return formulas, source, target


def _fail(name: str, place: str, message: str) -> NoReturn:
    raise PropertyError(f"{name}:{place}{':' if place else ''} {message}")


def _check_before_parsing(text: str, name: str) -> None:
    """Refuse what the package would crash on or read as something else.

    Its parser is recursive, so parentheses may not nest too deeply; and in brackets it reads the
    number 1.5 as 1.
    """
    depth = 0
    for match in re.finditer(r";[^\n]*|[()]|\[[^\]]*\]?", text):
        token = match.group()
        if token[0] == "[" and not re.fullmatch(r"\[\s*(\d+\s*(,\s*\d+\s*)*)?\]", token, re.ASCII):
            _fail(name, _place(text, match.start()), f"expected [i,j,...], found {token[:30]!r}")
        depth += {"(": 1, ")": -1}.get(token, 0)
        if depth > MAX_DEPTH:
            message = f"parentheses are nested deeper than {MAX_DEPTH}"
            _fail(name, _place(text, match.start()), message)


def _place(text: str, offset: int) -> str:
    """line:column of an offset."""
    return f"{text.count(chr(10), 0, offset) + 1}:{offset - text.rfind(chr(10), 0, offset)}"


def _located(message: str) -> tuple[str, str]:
    """(place, message) from the package's error text, which is a sentence or a JSON object."""
    syntax = re.match(r"Parse error: (.*) at line (\d+), column (\d+): ?(.*)", message, re.DOTALL)
    if syntax:
        near = syntax.group(4).strip()[:40]
        near = f" near {near}" if near.strip("'") else ""
        return f"{syntax.group(2)}:{syntax.group(3)}", syntax.group(1) + near
    try:
        first = json.loads(message)["errors"][0]
        return str(
            first["line"]
        ), f"{first['message']}: {first['offendingSymbol']} ({first['hint']})"
    except (ValueError, KeyError, IndexError, TypeError):
        return "", " ".join(message.split())[:300]


def _tensor(declared: Any, kind: str, size: int, name: str) -> Tensor:
    """The one declared input or output, if it fits the network."""
    if len(declared) != 1:
        _fail(name, "", f"exactly one {kind} is supported, this file declares {len(declared)}")
    (node,) = declared
    if node.dtype.name not in _DTYPES:
        _fail(
            name,
            "",
            f"{kind} {node.name!r} has type {node.dtype.name}; supported: float32, float64, real",
        )
    shape = tuple(int(n) for n in node.shape)
    if math.prod(shape) != size:
        _fail(
            name,
            "",
            f"{kind} {node.name!r} has shape {list(shape)}, but the network has {size} {kind}s",
        )
    return Tensor(node.name, _DTYPES[node.dtype.name], shape)


def _evaluate(root: Any, offsets: dict[str, tuple[int, tuple[int, ...]]], name: str) -> Formula:
    """The value of a syntax tree, bottom-up without recursion."""
    values: list[Expression] = []
    stack: list[tuple[Any, bool]] = [(root, False)]
    while stack:
        node, visited = stack.pop()
        kind = type(node).__name__
        if kind == "Var":
            values.append(_variable(node, offsets, name))
        elif hasattr(node, "lexeme"):
            values.append(_literal(node, name))
        elif kind not in _OPERATORS:
            _fail(name, _line(node), f"the construct {kind} is not supported")
        elif not visited:
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(node.children()))
        else:
            first = len(values) - len(node.children())
            operands = values[first:]
            del values[first:]
            try:
                values.append(apply(_OPERATORS[kind], operands))
            except PropertyError as error:
                _fail(name, _line(node), str(error))
    (value,) = values
    if isinstance(value, Linear):
        _fail(name, _line(root), "assert takes a true-or-false formula")
    return value


def _variable(node: Any, offsets: dict[str, tuple[int, tuple[int, ...]]], name: str) -> Linear:
    """One element of a tensor, numbered in row-major order."""
    offset, shape = offsets[node.name]
    if len(node.indices) != len(shape):
        _fail(
            name, str(node.line), f"{node.name} needs {len(shape)} indices, got {len(node.indices)}"
        )
    position = 0
    for index, size in zip(node.indices, shape, strict=True):
        if not 0 <= index < size:
            _fail(name, str(node.line), f"{node.name}{list(node.indices)} is outside {list(shape)}")
        position = position * size + int(index)
    return Linear({offset + position: ONE}, 0 * ONE)


def _literal(node: Any, name: str) -> Linear:
    """The number that a literal's text denotes."""
    try:
        return Linear({}, decimal(node.lexeme))
    except (PropertyError, ValueError) as error:
        _fail(name, str(node.line), str(error))


def _line(node: Any) -> str:
    """The line of the first leaf under a node (the package keeps lines for leaves only)."""
    while not hasattr(node, "line"):
        children = node.children()
        if not children:
            return ""
        node = children[0]
    return str(node.line)
