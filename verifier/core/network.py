"""The one structure: a chain of affine layers, each with a ReLU on a subset of its coordinates."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np

from verifier.core.errors import NetworkError
from verifier.core.exact import common_denominator, fractions, scaled_integers
from verifier.core.rounding import EXACT, Rounding
from verifier.core.sparse import is_sparse, sp


@dataclass(frozen=True, eq=False)
class Layer:
    """z = W a + b, then a' = max(z, 0) where ``relu`` is True and a' = z elsewhere.

    A float array is an exact number: float32 and float64 weights are dyadic rationals and mean
    just that. A weight array of dtype object holds Python integers or Fractions; such a layer
    evaluates exactly and has no float form.

    Args:
        weight: (n_out, n_in), dense ``ndarray`` or sparse ``csr_array``; float64 or object.
        bias: (n_out,), same dtype.
        relu: (n_out,) bool.
        rounding: what else z may be; see ``verifier.bounds.float32``. Exact evaluation knows
            nothing of it, and engines that do not read it must not be asked.

    Raises:
        NetworkError: shapes that do not fit, or a weight that is NaN, infinite, or of a type that
            has no exact float64 form.
    """

    weight: np.ndarray | sp.csr_array
    bias: np.ndarray
    relu: np.ndarray
    rounding: Rounding = EXACT

    def __post_init__(self) -> None:
        weight, bias, relu = _checked(self.weight, self.bias, self.relu)
        object.__setattr__(self, "weight", weight)
        object.__setattr__(self, "bias", bias)
        object.__setattr__(self, "relu", relu)

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return int(self.weight.shape[1])

    @property
    def n_out(self) -> int:
        """Number of outputs."""
        return int(self.weight.shape[0])

    @property
    def is_sparse(self) -> bool:
        """Whether the weight is stored as CSR."""
        return is_sparse(self.weight)

    @property
    def is_float(self) -> bool:
        """Whether all numbers are float64 (so that float engines may read them)."""
        return bool(self.weight.dtype == np.float64)

    @property
    def n_relu(self) -> int:
        """Number of coordinates with a ReLU."""
        return int(self.relu.sum())

    @property
    def nonzeros(self) -> int:
        """Number of nonzero weights and biases."""
        weight = self.weight.data if is_sparse(self.weight) else self.weight
        return int(np.count_nonzero(weight)) + int(np.count_nonzero(self.bias))

    @property
    def dense(self) -> np.ndarray:
        """The weight as a dense array (n_out, n_in)."""
        return self.weight if isinstance(self.weight, np.ndarray) else self.weight.toarray()

    @cached_property
    def _integers(self) -> tuple[Any, np.ndarray, int]:
        """Weight and bias as integers over one common power of two 2^shift.

        Dense weights come back as an object matrix; sparse ones as (data, indices, indptr).
        """
        data = self.weight.data if is_sparse(self.weight) else self.weight.ravel()
        joint, shift = scaled_integers(np.concatenate([np.asarray(data), self.bias]))
        bias = joint[len(joint) - self.n_out :]
        entries = joint[: len(joint) - self.n_out]
        if isinstance(self.weight, np.ndarray):
            return entries.reshape(self.weight.shape), bias, shift
        return (entries, self.weight.indices, self.weight.indptr), bias, shift

    def exact_affine(self, numerators: np.ndarray, denominator: int) -> tuple[np.ndarray, int]:
        """W a + b for a = numerators / denominator, exactly, as (numerators, denominator)."""
        weight, bias, shift = self._integers
        if isinstance(weight, tuple):
            data, indices, indptr = weight
            filled = indptr[1:] > indptr[:-1]
            z = np.zeros(self.n_out, dtype=object)
            if filled.any():
                products = data * numerators[indices]
                z[filled] = np.add.reduceat(products, indptr[:-1][filled])
        else:
            z = weight.dot(numerators)
        z = z + bias * denominator
        if shift < 0:
            return z * (1 << -shift), denominator
        return z, denominator << shift


def _checked(
    weight: np.ndarray | sp.csr_array, bias: np.ndarray, relu: np.ndarray
) -> tuple[np.ndarray | sp.csr_array, np.ndarray, np.ndarray]:
    """The three arrays converted once, checked, copied, and made read-only.

    Without copies a caller who goes on writing into an array would change the network.
    """
    if not is_sparse(weight):
        weight = np.asarray(weight)
    if len(weight.shape) != 2:
        raise NetworkError(f"a weight must have 2 dimensions, got shape {weight.shape}")
    bias, relu = np.asarray(bias), np.array(relu, dtype=bool)
    for name, array in (("bias", bias), ("relu", relu)):
        if array.shape != (weight.shape[0],):
            raise NetworkError(
                f"{name} must have shape ({weight.shape[0]},) to fit a weight of shape "
                f"{weight.shape}, got {array.shape}"
            )
    if is_sparse(weight):
        weight = sp.csr_array(weight, copy=True)
        weight.data = _float64(weight.data)
        weight.sum_duplicates()
        weight.eliminate_zeros()
        bias = _float64(bias)
        _require_finite(weight.data)
        for array in (weight.indices, weight.indptr):
            array.setflags(write=False)
    elif weight.dtype == object:
        weight, bias = _exact_entries(weight), _exact_entries(bias)
    else:
        weight, bias = _float64(weight), _float64(bias)
    data: Any = weight.data if is_sparse(weight) else weight
    for array in (data, bias, relu):
        array.setflags(write=False)
    return weight, bias, relu


def _float64(array: np.ndarray) -> np.ndarray:
    """A C-contiguous float64 copy of finite real numbers, refused if it would change one."""
    if array.dtype.kind not in "biuf":
        raise NetworkError(
            f"a weight or bias must hold real numbers, got dtype {array.dtype}; exact integers "
            "and Fractions need a dense weight of dtype object"
        )
    with np.errstate(over="ignore"):  # reported below
        converted = np.array(array, dtype=np.float64, order="C")
    _require_finite(converted)
    if array.dtype.kind in "iu":
        large = (array > 2**53) | (array < -(2**53))
        same = array[large].astype(object) == converted[large].astype(object)
    else:
        same = array == converted
    if not np.all(same):
        raise NetworkError(
            f"a weight or bias of dtype {array.dtype} has more bits than a float64; "
            "use dtype object for exact numbers"
        )
    return converted


def _require_finite(array: np.ndarray) -> None:
    """Raise NetworkError if a number is NaN or infinite."""
    if not np.isfinite(array).all():
        raise NetworkError("a weight or bias is NaN or infinite")


def _exact_entries(array: np.ndarray) -> np.ndarray:
    """A copy whose entries are Python integers and Fractions; floats mean their exact value.

    Any other kind of number would round or wrap around in the products.
    """
    try:
        values = fractions(array.ravel())
    except (ValueError, TypeError) as problem:
        raise NetworkError(f"a weight or bias is not a finite number: {problem}") from problem
    out = np.empty(len(values), dtype=object)
    out[:] = [v.numerator if v.denominator == 1 else v for v in values]
    return out.reshape(array.shape)


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers from R^n_inputs to R^n_outputs.

    Args:
        layers: at least one; each one's n_in is the previous one's n_out.
        input_shape: shape of one input as its users see it, e.g. (1, 28, 28); its
            product is n_inputs.
        name: shown in messages.
        notes: what an importer had to say about the network (constants it rounded, a trailing
            softmax it dropped); shown to the user with the verdict.

    Raises:
        NetworkError: no layers, or shapes that do not fit.
    """

    layers: tuple[Layer, ...]
    input_shape: tuple[int, ...] = ()
    name: str = "network"
    notes: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise NetworkError("a network needs at least one layer")
        for k, (first, second) in enumerate(pairwise(self.layers)):
            if first.n_out != second.n_in:
                raise NetworkError(
                    f"layer {k} has {first.n_out} outputs but layer {k + 1} takes "
                    f"{second.n_in} inputs"
                )
        shape = tuple(self.input_shape) or (self.n_inputs,)
        object.__setattr__(self, "input_shape", shape)
        if min(shape) < 0 or math.prod(shape) != self.n_inputs:
            raise NetworkError(f"input shape {shape} does not hold {self.n_inputs} numbers")

    @property
    def n_inputs(self) -> int:
        """Number of input coordinates."""
        return self.layers[0].n_in

    @property
    def n_outputs(self) -> int:
        """Number of output coordinates."""
        return self.layers[-1].n_out

    @property
    def depth(self) -> int:
        """Number of affine layers."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """Size of the largest hidden layer (0 if there is none)."""
        return max((layer.n_out for layer in self.layers[:-1]), default=0)

    @property
    def n_relu(self) -> int:
        """Number of ReLUs."""
        return sum(layer.n_relu for layer in self.layers)

    @property
    def nonzeros(self) -> int:
        """Number of nonzero weights and biases."""
        return sum(layer.nonzeros for layer in self.layers)

    @property
    def is_rounded(self) -> bool:
        """Whether the layers mean what a runtime may compute, not only exact values."""
        return any(layer.rounding for layer in self.layers)

    @property
    def is_float(self) -> bool:
        """Whether every layer has a float64 form."""
        return all(layer.is_float for layer in self.layers)

    def exact(self, x: Sequence[Any]) -> tuple[Fraction, ...]:
        """The network's exact value at a rational point.

        Args:
            x: n_inputs numbers (int, Fraction, finite float); floats mean their exact value.

        Returns:
            n_outputs Fractions, with no rounding anywhere.

        Raises:
            NetworkError: a wrong number of inputs, or one that is NaN or infinite.
        """
        *_, (_, activation, denominator) = self._exact_steps(x)
        return tuple(Fraction(v, denominator) for v in activation)

    def exact_trace(
        self, x: Sequence[Any]
    ) -> list[tuple[tuple[Fraction, ...], tuple[Fraction, ...]]]:
        """For each layer its exact (pre-activation z, activation a) at x."""
        return [
            (tuple(Fraction(v, q) for v in z), tuple(Fraction(v, q) for v in a))
            for z, a, q in self._exact_steps(x)
        ]

    def _exact_steps(self, x: Sequence[Any]) -> Iterator[tuple[np.ndarray, np.ndarray, int]]:
        """For each layer (z, a, q): integers over the common denominator q."""
        try:
            point = fractions(x)
        except ValueError as problem:
            raise NetworkError(f"an input is not a number: {problem}") from problem
        if len(point) != self.n_inputs:
            raise NetworkError(f"expected {self.n_inputs} inputs, got {len(point)}")
        integers, denominator = common_denominator(point)
        a = np.empty(len(integers), dtype=object)
        a[:] = integers
        for layer in self.layers:
            if layer.is_float:
                z, denominator = _stripped(*layer.exact_affine(a, denominator))
            else:
                z, denominator = _exact_affine_object(layer, a, denominator)
            a = np.where(layer.relu & (z < 0), 0, z)
            yield z, a, denominator

    def float64(self, x: np.ndarray) -> np.ndarray:
        """The network in float64, rounded as float64 rounds.

        Args:
            x: (n_inputs,) or (batch, n_inputs).

        Returns:
            (n_outputs,) or (batch, n_outputs).

        Raises:
            NetworkError: exact weights that no float64 holds, or a shape that does not fit.
        """
        if not self.is_float:
            raise NetworkError("the network has exact weights without a float64 form")
        a = np.asarray(x, dtype=np.float64)
        if a.ndim not in (1, 2) or a.shape[-1] != self.n_inputs:
            raise NetworkError(
                f"expected shape ({self.n_inputs},) or (batch, {self.n_inputs}), got {a.shape}"
            )
        for layer in self.layers:
            z = _apply(layer, a)
            a = np.where(layer.relu, np.maximum(z, 0.0), z)
        return a

    def with_inputs_as_outputs(self) -> Network:
        """The network x -> (N(x), x): the inputs ride along unchanged, by pass-through coordinates.

        Constraints that mix inputs and outputs are output constraints of this network.
        """
        d, layers = self.n_inputs, []
        for k, layer in enumerate(self.layers):
            eye = sp.eye_array(d, format="csr")
            if not layer.is_float:  # a sparse array cannot hold exact integers
                beside = np.zeros((layer.n_out, d if k else 0), dtype=object)
                below = np.zeros((d, layer.n_in if k else 0), dtype=object)
                identity = eye.toarray().astype(object)
                stacked: Any = np.block([[layer.weight, beside], [below, identity]])
            elif k == 0:
                stacked = sp.vstack([sp.csr_array(layer.weight), eye], format="csr")
            else:
                stacked = sp.block_diag([layer.weight, eye], format="csr")
            if layer.is_float and not layer.is_sparse and d <= layer.n_in:
                stacked = stacked.toarray()
            layers.append(
                Layer(
                    stacked,
                    np.concatenate([layer.bias, np.zeros(d)]),
                    np.concatenate([layer.relu, np.zeros(d, dtype=bool)]),
                    layer.rounding,
                )
            )
        return Network(tuple(layers), self.input_shape, self.name, self.notes)


def _apply(layer: Layer, a: np.ndarray) -> np.ndarray:
    """W a + b in float64 for one point or a batch of rows."""
    if layer.is_sparse:
        return np.asarray((layer.weight @ a.T).T + layer.bias)
    return np.asarray(a @ layer.weight.T + layer.bias)


def _stripped(numerators: np.ndarray, denominator: int) -> tuple[np.ndarray, int]:
    """The same numbers without the powers of two that numerators and denominator share.

    Every layer multiplies both by a power of two; kept, they would make the numbers longer with
    every layer of a deep network.
    """
    union = int(np.bitwise_or.reduce(numerators, initial=0)) | denominator
    shift = (union & -union).bit_length() - 1
    return (numerators >> shift, denominator >> shift) if shift else (numerators, denominator)


def _exact_affine_object(
    layer: Layer, numerators: np.ndarray, denominator: int
) -> tuple[np.ndarray, int]:
    """W a + b where W and b hold Python integers or Fractions."""
    z = layer.weight.dot(numerators) + layer.bias * denominator
    integers, factor = common_denominator(fractions(z))
    out = np.empty(len(integers), dtype=object)
    out[:] = integers
    return out, denominator * factor
