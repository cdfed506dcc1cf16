"""How the numerical kernels are compiled, and how their machine code is kept and called.

Numba compiles a kernel once for each combination of argument types; the machine code is kept in a
file and called through a C entry. Later processes load it with LLVM's loader alone: importing Numba
and reviving its own cache takes about half a second, a loader takes a few milliseconds.

The directory of these files is named by a digest of all kernel sources together, because a kernel
contains the code of what it calls; the file's name tells the processor and the argument types.

Kernels take C-contiguous arrays, numbers, and (named) tuples of these, write into the arrays that
they are given, and return nothing, a number or a tuple of numbers. They allocate nothing and raise
nothing, so that their code needs nothing of Numba at run time; compiling one that does is an error.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib.util
import json
import os
import re
import shutil
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from verifier.core.files import write_atomic

_PACKAGE = Path(__file__).resolve().parent.parent
#: The compiler may reorder sums (``reassoc``) and fuse multiply-adds (``contract``): the error
#: bounds of ``float_error`` hold for every order. NaN and infinity are respected.
_OPTIONS: dict[str, Any] = {
    "fastmath": {"reassoc", "contract", "nsz"},
    "error_model": "numpy",
    "nogil": True,
}
#: Kernels are called through entries of our own.
_BARE = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
#: What a kernel's code may ask of the process: the C library, and one function of Numba's that it
#: would call for arrays that own their memory, of which it has none.
_NEVER = "NRT_MemInfo_call_dtor"
_ALLOWED = re.compile(rf"llvm\..*|mem(cpy|set|move)|sqrtf?|log|log10|exp|pow|ldexp|rint|{_NEVER}")
_lock = threading.RLock()


@functools.cache
def directory() -> Path:
    """Beside the package if that can be written, else in the user's cache."""
    digest = hashlib.sha256()
    for name in ("numba", "llvmlite"):
        spec = importlib.util.find_spec(name)
        if spec is None or spec.origin is None:
            raise ModuleNotFoundError(f"{name} is not installed")
        digest.update(Path(spec.origin).with_name("_version.py").read_bytes())
    sources = [*_PACKAGE.rglob("*kernel*.py"), *(_PACKAGE / "bounds").glob("float_error.py")]
    for source in [*sorted(sources), Path(__file__)]:
        digest.update(source.read_bytes())
    name = f"kernels-{digest.hexdigest()[:16]}"
    if os.access(_PACKAGE, os.W_OK):
        return _PACKAGE / "__pycache__" / name
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "relucid" / name


def remove_stale_caches() -> None:
    """Delete what was compiled from other versions of the sources."""
    for other in directory().parent.glob("kernels-*"):
        if other != directory():
            shutil.rmtree(other, ignore_errors=True)


@dataclass(eq=False)
class _Leaves:
    """The arguments of a call, taken apart.

    Args:
        key: names their types, in order.
        pointers: where the arrays' data are.
        sizes: the arrays' shapes and the integers.
        reals: the floats.
    """

    key: list[str] = field(default_factory=list)
    pointers: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    reals: list[float] = field(default_factory=list)

    def add(self, value: Any) -> None:
        """One argument or, of a tuple, all its parts."""
        if isinstance(value, np.ndarray):
            # The code reads memory as it stands: nothing else would notice another order of bytes.
            if not (value.flags.c_contiguous and value.flags.aligned and value.dtype.isnative):
                raise TypeError("a kernel needs C-contiguous, aligned arrays of native numbers")
            self.key.append(f"{value.dtype.char}{value.ndim}")
            self.pointers.append(value.__array_interface__["data"][0])
            self.sizes += value.shape
        elif isinstance(value, tuple):
            self.key.append(f"{type(value).__name__}{len(value)}")
            for part in value:
                self.add(part)
        elif isinstance(value, (bool, np.bool_)):
            self.key.append("b")
            self.sizes.append(int(value))
        elif isinstance(value, (int, np.integer)):
            self.key.append("i")
            self.sizes.append(int(value))
        elif isinstance(value, (float, np.floating)):
            self.key.append("f")
            self.reals.append(float(value))
        else:
            raise TypeError(f"a kernel cannot take a {type(value).__name__}")


@dataclass(frozen=True, eq=False)
class _Code:
    """Machine code in memory.

    Args:
        entry: takes (unused, unused, pointers, sizes, reals), gives 0 if all went well.
        returns: a letter for each number that comes back, as in a key.
        single: whether it is one number and no tuple.
        keep: what must live as long.
    """

    entry: Callable[..., int]
    returns: str
    single: bool
    keep: object


class Kernel:
    """A compiled function; see the module."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)
        self.py_func = function
        self._codes: dict[tuple[str, ...], _Code] = {}

    def __call__(self, *args: Any) -> Any:
        """Call it with the interpreter lock released.

        Raises:
            TypeError: an argument that a kernel cannot take.
            RuntimeError: it raised an exception, which it should not.
        """
        leaves = _Leaves()
        for value in args:
            leaves.add(value)
        key = tuple(leaves.key)
        code = self._codes.get(key) or self._code(key, args)
        n = len(code.returns)
        pointers = (ctypes.c_void_p * (len(leaves.pointers) + 1))(*leaves.pointers)
        sizes = (ctypes.c_int64 * (len(leaves.sizes) + n + 1))(*(0,) * n, *leaves.sizes)
        reals = (ctypes.c_double * (len(leaves.reals) + n + 1))(*(0.0,) * n, *leaves.reals)
        unused = (ctypes.c_void_p * 2)()
        status = code.entry(unused, ctypes.byref(unused, 8), pointers, sizes, reals)
        if status:
            raise RuntimeError(f"the kernel {self.py_func.__qualname__} failed ({status})")
        if not n:
            return None
        found = tuple(
            reals[i] if kind == "f" else bool(sizes[i]) if kind == "b" else sizes[i]
            for i, kind in enumerate(code.returns)
        )
        return found[0] if code.single else found

    def bind(self, *args: Any, scalars: tuple[int | float, ...] = ()) -> Bound:
        """The call with these arguments, prepared once to be made many times.

        Args:
            args: the first arguments; arrays are those that every call reads and writes.
            scalars: numbers for the last arguments, in the types that every call gives.

        Raises:
            TypeError: an argument that a kernel cannot take, or a kernel that returns something.
        """
        leaves = _Leaves()
        for value in args:
            leaves.add(value)
        places = []
        for value in scalars:
            places.append((isinstance(value, float), len(leaves.reals), len(leaves.sizes)))
            leaves.add(value)
        key = tuple(leaves.key)
        code = self._codes.get(key) or self._code(key, (*args, *scalars))
        if code.returns:
            raise TypeError(f"{self.py_func.__qualname__} returns something: it cannot be bound")
        return Bound(self, code, leaves, places, args)

    @functools.cached_property
    def dispatcher(self) -> Any:
        """What Numba makes of it, for kernels that call it."""
        return _numba().njit(**_OPTIONS, **_BARE)(self.py_func)

    def _code(self, key: tuple[str, ...], args: tuple[Any, ...]) -> _Code:
        """From the file, or compiled into the file."""
        with _lock:
            if key not in self._codes:
                path = self._path(key)
                kept = _kept(path)
                if kept is None:
                    kept = self._compiled(args)
                    try:
                        path.parent.mkdir(parents=True, exist_ok=True)
                        write_atomic(path, hashlib.sha256(kept).digest() + kept)
                    except OSError as error:
                        warnings.warn(f"compiled code cannot be kept: {error}", stacklevel=2)
                self._codes[key] = _load(kept)
            return self._codes[key]

    def _path(self, key: tuple[str, ...]) -> Path:
        """The file for these types and this processor."""
        import llvmlite.binding as llvm

        cpu = [llvm.get_host_cpu_name(), llvm.get_host_cpu_features().flatten()]
        digest = hashlib.sha256(" ".join([*cpu, *key]).encode()).hexdigest()[:16]
        return directory() / f"{self.py_func.__module__}.{self.py_func.__name__}-{digest}.code"

    def _compiled(self, args: tuple[Any, ...]) -> bytes:
        """A line about the code, then the code.

        Raises:
            TypeError: it allocates or raises, or returns something else than numbers.
        """
        numba = _numba()
        from numba.core import types

        kinds = tuple(numba.typeof(value) for value in args)
        self.dispatcher.compile(kinds)
        returned = self.dispatcher.overloads[kinds].signature.return_type
        single = not isinstance(returned, types.BaseTuple)
        parts = [] if returned is types.none else [returned] if single else list(returned)
        returns = "".join(_letter(part) for part in parts)
        pointer: Any = types.CPointer
        signature = types.void(*map(pointer, (types.voidptr, types.int64, types.float64)))
        entry = numba.njit(signature, **_OPTIONS, **_BARE)(_entry(self, args, returns, single))
        (made,) = entry.overloads.values()
        needed = re.findall(r'^declare [^@]*@"?([\w.$]+)', made.library.get_llvm_str(), re.M)
        strange = sorted({name for name in needed if not _ALLOWED.fullmatch(name)})
        if strange:
            raise TypeError(f"{self.py_func.__qualname__} needs {', '.join(strange)}")
        about = {"name": made.fndesc.llvm_func_name, "returns": returns, "single": single}
        code: bytes = made.library._get_compiled_object()
        return json.dumps(about).encode() + b"\n" + code


class Bound:
    """A prepared call of a kernel; one thread at a time may make it.

    Args:
        kernel: for messages.
        code: its machine code.
        leaves: all arguments, taken apart.
        places: of the last arguments: whether a float, and where among floats and integers.
        keep: the arrays, which must live as long.
    """

    def __init__(
        self, kernel: Kernel, code: _Code, leaves: _Leaves,
        places: list[tuple[bool, int, int]], keep: object,
    ) -> None:  # fmt: skip
        self._pointers = (ctypes.c_void_p * (len(leaves.pointers) + 1))(*leaves.pointers)
        self._sizes = (ctypes.c_int64 * (len(leaves.sizes) + 1))(*leaves.sizes)
        self._reals = (ctypes.c_double * (len(leaves.reals) + 1))(*leaves.reals)
        self._unused = (ctypes.c_void_p * 2)()
        self._second = ctypes.byref(self._unused, 8)
        self._name, self._entry = kernel.py_func.__qualname__, code.entry
        self._places: list[tuple[Any, int]] = [
            (self._reals, real) if is_float else (self._sizes, size)
            for is_float, real, size in places
        ]
        self._keep = (keep, code)

    def __call__(self, *scalars: float) -> None:
        """Make the call with the interpreter lock released.

        Args:
            scalars: as many as were bound.

        Raises:
            RuntimeError: the kernel raised an exception, which it should not.
        """
        for (array, place), value in zip(self._places, scalars, strict=True):
            array[place] = value
        status = self._entry(self._unused, self._second, self._pointers, self._sizes, self._reals)
        if status:
            raise RuntimeError(f"the kernel {self._name} failed ({status})")


jit = Kernel


@functools.cache
def _numba() -> Any:
    """Numba, which learns that to it our objects are what it would have made of them."""
    import numba
    from numba.extending import typeof_impl

    typeof: Any = numba.typeof
    typeof_impl.register(Kernel)(lambda value, _: typeof(value.dispatcher))
    return numba


def _letter(kind: Any) -> str:
    """How a returned number comes back."""
    from numba.core import types

    if isinstance(kind, types.Boolean):
        return "b"
    if isinstance(kind, types.Integer):
        return "i"
    if isinstance(kind, types.Float):
        return "f"
    raise TypeError(f"a kernel returns numbers, not {kind}")


def _entry(kernel: Kernel, args: tuple[Any, ...], returns: str, single: bool) -> Any:
    """A function of (pointers, sizes, reals) that puts the arguments together and calls the kernel.

    The numbers that it returns are left at the beginning of sizes and reals.
    """
    names: dict[str, Any] = {"carray": _numba().carray, "kernel": kernel, "np": np}
    lines: list[str] = []
    counts = {"p": 0, "s": len(returns), "x": len(returns)}

    def take(place: str) -> str:
        counts[place] += 1
        return f"{place}[{counts[place] - 1}]"

    def part(value: Any) -> str:
        if isinstance(value, np.ndarray):
            shape = "".join(take("s") + ", " for _ in range(value.ndim))
            name, pointer = f"a{counts['p']}", take("p")
            dtype = "bool_" if value.dtype == bool else value.dtype.name
            lines.append(f"{name} = carray({pointer}, ({shape}), dtype=np.{dtype})")
            return name
        if isinstance(value, tuple):
            inner = "".join(part(v) + ", " for v in value)
            if hasattr(value, "_fields"):
                names[type(value).__name__] = type(value)
                return f"{type(value).__name__}({inner})"
            return f"({inner})"
        if isinstance(value, (bool, np.bool_)):
            return f"({take('s')} != 0)"
        return take("x" if isinstance(value, (float, np.floating)) else "s")

    call = "kernel(" + "".join(part(v) + ", " for v in args) + ")"
    lines.append(f"r = {call}" if returns else call)
    for i, kind in enumerate(returns):
        lines.append(f"{'x' if kind == 'f' else 's'}[{i}] = r" + ("" if single else f"[{i}]"))
    # The text is made of type names and counters only.
    exec("def entry(p, s, x):\n" + "".join(f"    {line}\n" for line in lines), names)  # noqa: S102
    return names["entry"]


def _kept(path: Path) -> bytes | None:
    """What the file holds after its digest, or None if there is none that is whole."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def _load(data: bytes) -> _Code:
    """Machine code as a function."""
    import llvmlite.binding as llvm

    line, _, code = data.partition(b"\n")
    about = json.loads(line)
    engine = _engine()
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    address = engine.get_function_address(about["name"])
    kind = ctypes.CFUNCTYPE(ctypes.c_int32, *(ctypes.c_void_p,) * 5)
    return _Code(kind(address), about["returns"], about["single"], engine)


def _engine() -> Any:
    """A loader of its own for each piece of code, as they may define the same names."""
    import llvmlite.binding as llvm

    llvm.add_symbol(_NEVER, ctypes.cast(ctypes.CDLL(None).abort, ctypes.c_void_p).value)
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    return llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
