"""A Torch module as an ONNX graph with the same numbers, bit for bit.

The module is traced by ``torch.export`` on one input; its ATen operators become ONNX operators one
by one, without any of the merging and folding that exporters do (a batch normalisation folded into
a convolution is rounded). What moves entries only (view, permute, slice, pad by reflection, ...) is
applied, by Torch itself, to the positions 0, 1, 2, ... of its input; what comes out says which
entry stands where. What reads parameters only is computed once.
"""

from __future__ import annotations

import io
import logging
import operator
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Node

from torchbridge.operators import MOVING, OPERATORS
from torchbridge.writing import Value, Writer
from verifier.core.errors import ModelError

#: Version of ONNX's operators in what is written.
OPSET = 17
IR_VERSION = 8
#: What stands for a constant itself, and what computes nothing.
_COPIES = ("detach_", "lift_fresh_copy")
_CHECKS = ("_assert_tensor_metadata",)
_NUMBERS = {torch.float32: "float32", torch.float64: "float64"}


@dataclass(frozen=True, eq=False)
class Traced:
    """An ONNX model made from a module.

    Args:
        proto: the ONNX ModelProto: one input of batch size 1, one output.
        notes: what was rounded on the way.
        products: multiplications, about as many as nonzeros of the network.
    """

    proto: Any
    notes: tuple[str, ...]
    products: int


def trace(module: nn.Module, input_shape: Sequence[int], name: str = "module") -> Traced:
    """The module's graph on one input of a shape.

    Args:
        module: in evaluation mode, on any device; its floats are all float32 or all float64.
        input_shape: of one input, without the batch dimension.
        name: of the graph, and in messages.

    Raises:
        ModelError: training mode, other kinds of numbers, an input that does not fit, control flow
            that depends on the input, or an operator without an exact form (the module is named).
    """
    kind = require_convertible(module, name)
    shape = (1, *(int(n) for n in input_shape))
    if min(shape) < 1:
        raise ModelError(f"{name}: input shape {shape[1:]} has an empty dimension")
    program = _exported(module, shape, kind, name)
    writer = Writer(_NUMBERS[kind])
    values = _leaves(program, shape, writer, name)
    for node in program.graph.nodes:
        if node.op == "call_function":
            values[node] = _call(node, values, writer, name)
    (last,) = program.graph.output_node().args[0]
    result = values[last]
    if not isinstance(result, Value):
        raise ModelError(f"{name}: the output does not depend on the input")
    notes = tuple(dict.fromkeys(writer.notes))
    return Traced(_model(writer, shape, result, name), notes, writer.products)


def require_convertible(module: nn.Module, name: str) -> torch.dtype:
    """The type of the module's numbers (float32 if it has none).

    Raises:
        ModelError: a part is in training mode, or the numbers are not all of one of the two types.
    """
    for path, part in module.named_modules():
        if part.training:
            raise ModelError(
                f"{name}: {_place(path, type(part).__name__)} is in training mode, where a network "
                "may be another function; call eval() first"
            )
    kinds: dict[torch.dtype, str] = {}
    for path, tensor in (*module.named_parameters(), *module.named_buffers()):
        if tensor.is_floating_point() or tensor.is_complex():
            kinds.setdefault(tensor.dtype, path)
    wrong = [(kind, path) for kind, path in kinds.items() if kind not in _NUMBERS]
    if wrong or len(kinds) > 1:
        kind, path = wrong[0] if wrong else list(kinds.items())[1]
        raise ModelError(
            f"{name}: {path} has type {kind}; expected all numbers in float32, or all in float64"
        )
    return next(iter(kinds), torch.float32)


def _place(path: str, kind: str) -> str:
    """How a module is named in messages."""
    return f"module {path!r} ({kind})" if path else f"the module ({kind})"


def _exported(module: nn.Module, shape: tuple[int, ...], kind: torch.dtype, name: str) -> Any:
    """``torch.export`` of the module, functional, on zeros of the shape."""
    device = next((t.device for t in module.parameters()), torch.device("cpu"))
    zeros = torch.zeros(shape, dtype=kind, device=device)
    try:
        with torch.no_grad(), _quiet():
            output = module(zeros)  # what does not fit says so more plainly here
            if not isinstance(output, Tensor):
                raise ModelError(
                    f"{name}: the module returns {type(output).__name__}, expected one tensor"
                )
            program = torch.export.export(module, (zeros,))
            if any(_in_place(n.target) for n in program.graph.nodes if n.op == "call_function"):
                program = program.run_decompositions({})  # without steps in place
    except (RuntimeError, ValueError, TypeError, AttributeError, IndexError) as problem:
        raise ModelError(
            f"{name}: Torch cannot run or trace the module on an input of shape {shape}: "
            f"{str(problem).strip().splitlines()[0] if str(problem).strip() else problem!r}"
        ) from problem
    return program


def _in_place(target: Any) -> bool:
    """Whether an operator changes its input."""
    return isinstance(target, torch._ops.OpOverload) and target._schema.is_mutable


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the tracer logs, prints and warns of; errors are raised all the same."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _leaves(program: Any, shape: tuple[int, ...], writer: Writer, name: str) -> dict[Node, Any]:
    """The graph's placeholders: the input, and parameters as tensors."""
    specs = {spec.arg.name: spec for spec in program.graph_signature.input_specs}
    tensors = {**program.state_dict, **program.constants}
    values: dict[Node, Any] = {}
    for node in program.graph.nodes:
        if node.op != "placeholder":
            continue
        target = specs[node.name].target
        if target is None:
            values[node] = Value("input", shape)
        elif isinstance(tensors.get(target), Tensor):
            values[node] = tensors[target].detach().cpu()
        else:
            raise ModelError(f"{name}: {target} is no tensor")
    return values


def _call(node: Node, values: dict[Node, Any], writer: Writer, name: str) -> Any:
    """What one node computes: a ``Value``, a constant tensor, or a list of them."""
    target: Any = node.target
    path, kind = _origin(node)
    if target is operator.getitem:
        source, index = node.args
        parts: Any = values[source]  # type: ignore[index]
        return parts[index]
    if not isinstance(target, torch._ops.OpOverload):
        raise ModelError(f"{name}: {_place(path, kind)}: {target} is no operator of tensors")
    short = target._schema.name.split("::")[-1]
    if short in _CHECKS:
        return None
    arguments = _bound(node, values)
    writer.place = f"{path or name}.{short}"
    if not any(isinstance(v, Value) for v in _flat(arguments.values())):
        return _constant(target, arguments, short, writer)
    try:
        if short in MOVING:
            return MOVING[short](writer, target, arguments)
        if short in OPERATORS:
            return OPERATORS[short](writer, arguments)
    except ModelError as problem:
        raise ModelError(f"{name}: {_place(path, kind)}: {problem}") from problem
    raise ModelError(
        f"{name}: {_place(path, kind)}: {short} has no exact piecewise linear form here"
        f"{_advice(short)}; supported are {', '.join(sorted(OPERATORS))}, and what moves entries"
    )


def _advice(short: str) -> str:
    """What could be done about an operator that is not supported."""
    if short in ("softmax", "_softmax", "log_softmax", "_log_softmax", "sigmoid"):
        return " (at the end leave it out: the outputs before it have the same order)"
    return ""


def _origin(node: Node) -> tuple[str, str]:
    """(path, class) of the innermost module that the node comes from."""
    stack = list((node.meta.get("nn_module_stack") or {}).values())
    if not stack:
        return "", "function"
    path, kind = stack[-1]
    return str(path), str(getattr(kind, "__name__", kind)).split(".")[-1]


def _bound(node: Node, values: dict[Node, Any]) -> dict[str, Any]:
    """The node's arguments by name, nodes replaced by what they computed, defaults filled in."""

    def resolved(value: Any) -> Any:
        if isinstance(value, Node):
            return values[value]
        if isinstance(value, list | tuple):
            return [resolved(v) for v in value]
        return value

    target: Any = node.target
    out = {}
    for k, argument in enumerate(target._schema.arguments):
        if k < len(node.args):
            out[argument.name] = resolved(node.args[k])
        elif argument.name in node.kwargs:
            out[argument.name] = resolved(node.kwargs[argument.name])
        else:
            out[argument.name] = argument.default_value
    return out


def _flat(values: Any) -> Iterator[Any]:
    """The entries of lists among the values, too."""
    for value in values:
        if isinstance(value, list):
            yield from _flat(value)
        else:
            yield value


def _constant(target: Any, arguments: dict[str, Any], short: str, writer: Writer) -> Any:
    """An operator on parameters alone, computed by Torch in their type."""
    keyword = {a.name for a in target._schema.arguments if a.kwarg_only}
    positional = [v for k, v in arguments.items() if k not in keyword]
    given = {k: v for k, v in arguments.items() if k in keyword and k != "device"}
    result = target(*positional, **given)
    if (
        short not in (*MOVING, *_COPIES)
        and isinstance(result, Tensor)
        and result.is_floating_point()
    ):
        writer.notes.append(f"{writer.place}: constants were combined in the module's type")
    return result


def _model(writer: Writer, shape: tuple[int, ...], result: Value, name: str) -> Any:
    """The ONNX model of what was written."""
    from onnx import TensorProto, helper

    kind = TensorProto.FLOAT if writer.kind == "float32" else TensorProto.DOUBLE
    _name_output(writer, result)
    graph = helper.make_graph(
        writer.nodes,
        name,
        [helper.make_tensor_value_info("input", kind, shape)],
        [helper.make_tensor_value_info("output", kind, result.shape)],
        writer.tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version, model.producer_name = IR_VERSION, "relucid"
    return model


def _name_output(writer: Writer, result: Value) -> None:
    """Call the result "output": what computes it, so that no node has only a name to give.

    Some verifiers take no Identity, which stands here only where the input itself is the result.
    """
    from onnx import helper

    if not any(result.name in node.output for node in writer.nodes):
        writer.nodes.append(helper.make_node("Identity", [result.name], ["output"], name="output"))
        return
    for node in writer.nodes:
        for names in (node.input, node.output):
            for k, name in enumerate(names):
                if name == result.name:
                    names[k] = "output"
