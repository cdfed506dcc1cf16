"""What a model's outputs mean, written into the file beside its graph.

Two entries of ONNX's ``metadata_props``, which runtimes ignore: ``relucid.decision`` is one of the
rules of ``verifier.core.decision``, ``relucid.classes`` the JSON list of the classes' names.
"""

from __future__ import annotations

import json
from typing import Any

from verifier.core.decision import Decision, Rule
from verifier.core.errors import ModelError, PropertyError

_RULE, _CLASSES = "relucid.decision", "relucid.classes"


def write_decision(model: Any, decision: Decision) -> None:
    """Add the decision to an ONNX model."""
    model.metadata_props.add(key=_RULE, value=str(decision.rule))
    names = json.dumps(list(decision.classes), ensure_ascii=False)
    model.metadata_props.add(key=_CLASSES, value=names)


def read_decision(model: Any) -> Decision | None:
    """The decision in an ONNX model, or None if it has none.

    Raises:
        ModelError: the entries are damaged.
    """
    entries = {entry.key: entry.value for entry in model.metadata_props}
    if _RULE not in entries:
        return None
    try:
        rule = Rule(entries[_RULE])
        names = json.loads(entries.get(_CLASSES, "[]"))
    except ValueError as problem:
        raise ModelError(f"metadata {_RULE}, {_CLASSES}: {problem}") from problem
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ModelError(f"metadata {_CLASSES}: expected a list of names, got {names!r}")
    try:
        return Decision(rule, tuple(names))
    except PropertyError as problem:
        raise ModelError(f"metadata {_CLASSES}: {problem}") from problem
