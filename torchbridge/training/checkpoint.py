"""The state of a training run as one file of plain arrays, written whole or not at all.

The file is an NPZ: tensors of the module and of the optimiser, the state of the random numbers,
and one array of bytes with the rest as JSON. Nothing in it is unpickled.
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, nn
from torch.optim import Optimizer

from verifier.core.errors import DataError
from verifier.core.files import read_bytes, write_atomic

#: Bytes of a checkpoint file at most.
LIMIT = 8 * 2**30
_FORMAT = 1


@dataclass
class EpochRow:
    """One epoch of the history.

    Args:
        epoch: its number, from 1.
        loss: mean loss of its steps.
        radius: at its end.
        seconds: of training in it.
        accuracy: on the held-out points, or None.
        robust: share of some held-out points that the inner attack does not break, or None.
    """

    epoch: int
    loss: float
    radius: float
    seconds: float
    accuracy: float | None = None
    robust: float | None = None


@dataclass
class State:
    """Where a run stands.

    Args:
        recipe: ``Recipe.described``.
        data: what the data are (name, number, digest).
        step: steps done.
        loss: sum of the losses of the present epoch's steps.
        seconds: of training in the present epoch.
        history: finished epochs.
    """

    recipe: str
    data: str
    step: int = 0
    loss: float = 0.0
    seconds: float = 0.0
    history: list[EpochRow] = field(default_factory=list)


def save(
    path: Path, state: State, model: nn.Module, optimiser: Optimizer, noise: Generator
) -> None:
    """Write a checkpoint.

    Raises:
        OSError: the place cannot be written to.
    """
    arrays = {f"model.{key}": value.cpu().numpy() for key, value in model.state_dict().items()}
    for number, kept in optimiser.state_dict()["state"].items():
        for key, value in kept.items():
            arrays[f"optimiser.{number}.{key}"] = value.cpu().numpy()
    arrays["noise"] = noise.get_state().numpy()
    head = {"format": _FORMAT} | asdict(state)
    arrays["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    write_atomic(path, stream.getvalue())


def load(
    path: Path, expected: State, model: nn.Module, optimiser: Optimizer, noise: Generator
) -> State:
    """Put a checkpoint's state into a module, an optimiser and a generator.

    Args:
        path: the file.
        expected: the state of a new run: recipe and data must be the same.
        model, optimiser, noise: made as for a new run; changed in place.

    Raises:
        DataError: the file is no checkpoint, is damaged, or is of another run.
    """
    arrays = _arrays(path)
    state = _head(path, arrays)
    apart = _apart(state.recipe, expected.recipe)
    if state.data != expected.data:
        apart.append(f"its data are {state.data}, now {expected.data}")
    if apart:
        raise DataError(
            f"{path}: the checkpoint is of another run: {'; '.join(apart)}. Remove it, or give "
            "--restart, to begin anew"
        )
    try:
        own = {key: torch.from_numpy(arrays[f"model.{key}"]) for key in model.state_dict()}
        model.load_state_dict(own)
        noise.set_state(torch.from_numpy(arrays["noise"]))
        moments: dict[int, dict[str, Any]] = {}
        for key, value in arrays.items():
            if key.startswith("optimiser."):
                _, number, name = key.split(".", 2)
                moments.setdefault(int(number), {})[name] = torch.from_numpy(value)
        optimiser.load_state_dict(optimiser.state_dict() | {"state": moments})
        for parameter, kept in optimiser.state.items():
            for name, value in kept.items():
                if value.shape == parameter.shape:  # in the order of its numbers, as in a new run
                    kept[name] = torch.empty_like(parameter).copy_(value)
    except (KeyError, ValueError, RuntimeError, TypeError) as problem:
        raise DataError(f"{path}: the checkpoint does not fit the run: {problem}") from problem
    return state


def _apart(kept: str, now: str) -> list[str]:
    """In what two recipes differ, as ``Recipe.described`` writes them."""
    if kept == now:
        return []
    whole = [f"its recipe is {kept}, now {now}"]
    try:
        old, new = json.loads(kept), json.loads(now)
        keys = [key for key in new if old.get(key) != new[key]]
    except (ValueError, AttributeError):
        return whole
    return [f"its {key} is {old.get(key)}, now {new[key]}" for key in keys] or whole


def _arrays(path: Path) -> dict[str, np.ndarray]:
    """All arrays of the file."""
    data = read_bytes(path, limit=LIMIT, error=DataError)
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile) as problem:
        raise DataError(f"{path}: not a checkpoint, or damaged ({problem})") from problem


def _head(path: Path, arrays: dict[str, np.ndarray]) -> State:
    """Everything that is not an array."""
    try:
        head = json.loads(arrays["head"].tobytes())
        if head.pop("format") != _FORMAT:
            raise DataError(f"{path}: a checkpoint of another version")
        rows = [EpochRow(**row) for row in head.pop("history")]
        return State(**head, history=rows)
    except (KeyError, TypeError, ValueError, AttributeError) as problem:
        raise DataError(f"{path}: not a checkpoint, or damaged ({problem})") from problem
