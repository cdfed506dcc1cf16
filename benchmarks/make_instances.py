"""Write sets of instances in VNN-COMP form from what relucid ships and builds.

``python benchmarks/make_instances.py FOLDER``

FOLDER/models: the bundled networks on balls around held-out digits. FOLDER/constructions: networks
that ``relucid build`` makes of all digits, on balls of 0.99 of the largest radius that any network
can have; their answer is known: unsat. Each folder gets an instances.csv for ``run_vnncomp.py`` and
``check_proofs.py``.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

from constructions.dataset import DataSet, load_dataset
from relucid.ball_pass import Ball
from relucid.bundled import model_names, model_path
from relucid.runs import check_data
from verifier.core.errors import RelucidError
from verifier.core.property import Box
from verifier.io.onnx import load_model
from verifier.io.vnnlib_write import property_text

RADII = ("0.02", "0.06")
#: λ of all digits is 7/16.
RATIO, LARGEST = Fraction(99, 100), Fraction(7, 32)
_RADIUS = ("--ratio", str(RATIO))
#: Names and options of `relucid build`.
CONSTRUCTIONS = (
    ("optimal-robust", *_RADIUS), ("class-sum", *_RADIUS), ("blocks", "--width", "3000", *_RADIUS),
    ("shallow", *_RADIUS), ("compact", *_RADIUS), ("bias", *_RADIUS), ("lipschitz-multiclass",),
)  # fmt: skip
#: Seconds that an instance may take.
LIMIT = 60


def write_balls(model: Path, data: DataSet, points: Iterable[int], ball: Ball) -> list[str]:
    """Questions about balls beside a model's file, and their lines of instances.csv.

    Raises:
        RelucidError: the model does not fit the data.
    """
    loaded = load_model(model)
    points = list(points)
    classes = check_data(loaded, data, points)
    lines = []
    for i in points:
        box = Box.ball(ball.center(data, i), ball.eps, ball.clip)
        n_outputs = loaded.network.n_outputs
        prop = classes.property(box, classes.position(data, i), n_outputs, f"{data.name} {i}")
        name = f"{model.stem}_{i}_{float(ball.eps):g}.vnnlib"
        model.with_name(name).write_text(property_text(prop))
        lines.append(f"{model.name},{name},{LIMIT}")
    return lines


def models(folder: Path, count: int) -> list[str]:
    """The bundled networks on the first held-out digits."""
    data, lines = load_dataset("digits:test"), []
    clip = (Fraction(0), Fraction(1))
    for name in model_names():
        model = folder / f"{name}.onnx"
        shutil.copy(model_path(name), model)
        for radius in RADII:
            lines += write_balls(model, data, range(count), Ball(Fraction(radius), clip))
    return lines


def constructions(folder: Path, count: int) -> list[str]:
    """Networks of all digits, on balls spread over the set."""
    data, lines = load_dataset("digits:all"), []
    points = range(0, len(data), max(1, len(data) // count))[:count]
    relucid = Path(sys.executable).with_name("relucid")
    for name, *more in CONSTRUCTIONS:
        model = folder / f"{name}.onnx"
        build = [relucid, "build", name, "digits", *more, "--no-prove", "--out", model]
        subprocess.run(build, check=True, stdout=subprocess.DEVNULL)
        lines += write_balls(model, data, points, Ball(RATIO * LARGEST, exact_center=True))
    return lines


SETS = {"models": models, "constructions": constructions}


def main(arguments: Sequence[str] | None = None) -> int:
    """0 written, 2 bad input."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="where the sets' folders go")
    parser.add_argument("--count", type=int, default=10, help="points for each model and radius")
    parser.add_argument("--set", choices=SETS, action="append", help="only this one")
    options = parser.parse_args(arguments)
    if options.count < 1:
        parser.error(f"--count must be at least 1, got {options.count}")
    try:
        for name in options.set or SETS:
            folder = options.folder / name
            folder.mkdir(parents=True, exist_ok=True)
            lines = SETS[name](folder, options.count)
            (folder / "instances.csv").write_text("\n".join(lines) + "\n")
            print(f"{folder / 'instances.csv'}: {len(lines)} instances")
    except (RelucidError, OSError, subprocess.CalledProcessError) as error:
        print(f"make_instances: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
