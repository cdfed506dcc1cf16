"""Data sets: exact values, every reader against bytes written here, and every kind of damage."""

import gzip
import io
import struct
import subprocess
import sys
import zipfile
from fractions import Fraction
from types import SimpleNamespace

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given
from sklearn.datasets import load_digits

from constructions.dataset import DIGITS_TRAINING, DataSet, load_dataset
from constructions.dataset_files import read_idx
from verifier.core.errors import DataError


def idx(array, code=8):
    """The array as IDX bytes."""
    kind = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}[code]
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, code, array.ndim]) + sizes + array.astype(kind).tobytes()


IMAGES = np.arange(3 * 2 * 2, dtype=np.uint8).reshape(3, 2, 2) * 20
LABELS = np.array([2, 0, 1], dtype=np.uint8)


@pytest.fixture
def idx_folder(tmp_path):
    for split, rows in (("train", slice(0, 2)), ("t10k", slice(2, 3))):
        (tmp_path / f"{split}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(IMAGES[rows])))
        (tmp_path / f"{split}-labels-idx1-ubyte").write_bytes(idx(LABELS[rows]))
    return tmp_path


def cifar(labels, seed=0):
    """CIFAR-10 records with random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (len(labels), 3072), dtype=np.uint8)
    return np.concatenate([np.array(labels, np.uint8)[:, None], pixels], axis=1).tobytes()


# Values ------------------------------------------------------------------------------------------


def test_digits_are_exact_sixteenths():
    data = load_dataset("digits")
    assert (len(data), data.dimension, data.shape, data.n_classes) == (1797, 64, (8, 8), 10)
    assert data.is_image
    assert set(data.sample(0)) <= {Fraction(k, 16) for k in range(17)}
    assert [Fraction(float(v)) for v in data.float32(5)] == list(data.sample(5))


def test_digits_are_those_that_scikit_learn_gives():
    data, bunch = load_dataset("digits:all"), load_digits()
    assert np.array_equal(data.points, bunch.data)
    assert np.array_equal(data.labels, bunch.target)
    assert data.shape == bunch.images.shape[1:]


def test_loading_digits_does_not_import_scikit_learn():
    code = (
        "import sys; from constructions.dataset import load_dataset; load_dataset('digits'); "
        "sys.exit('sklearn' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"no gzip",
        gzip.compress(b"1,2\n3,4\n", mtime=0),
        gzip.compress(b"a,b\n", mtime=0),
        gzip.compress(b"1,2\n3\n", mtime=0),
    ],
)
def test_another_file_of_digits_is_refused(tmp_path, monkeypatch, content):
    folder = tmp_path / "datasets" / "data"
    folder.mkdir(parents=True)
    if content is not None:
        (folder / "digits.csv.gz").write_bytes(content)
    spec = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("constructions.dataset.find_spec", lambda name: spec)
    with pytest.raises(DataError, match="digits"):
        load_dataset("digits")


def test_digits_without_scikit_learn_are_refused(monkeypatch):
    monkeypatch.setattr("constructions.dataset.find_spec", lambda name: None)
    with pytest.raises(DataError, match="not installed"):
        load_dataset("digits")


def test_digits_split_into_training_and_held_out_rows():
    everything, train, test = (load_dataset(f"digits:{s}") for s in ("all", "train", "test"))
    assert (len(train), len(test)) == (DIGITS_TRAINING, 360)
    assert np.array_equal(everything.points[:DIGITS_TRAINING], train.points)
    assert np.array_equal(everything.points[DIGITS_TRAINING:], test.points)
    assert len(load_dataset("digits", default_split="test")) == 360


def test_a_pixel_is_the_rational_and_its_nearest_float32():
    points = np.arange(256, dtype=np.uint8)[None]
    data = DataSet(points, np.array([0]), (16, 16), 1, scale=Fraction(1, 255))
    exact, rounded = data.sample(0), data.float32(0)
    assert exact[51] == Fraction(1, 5)
    assert Fraction(float(rounded[51])) != Fraction(1, 5)
    for e, r in zip(exact, rounded, strict=True):
        distance = abs(Fraction(float(r)) - e)
        for direction in (-np.inf, np.inf):
            neighbour = np.nextafter(r, np.float32(direction))
            assert distance <= abs(Fraction(float(neighbour)) - e)


@given(
    st.lists(st.integers(-(2**62), 2**62), min_size=1, max_size=5),
    st.fractions(min_value=Fraction(1, 10**15), max_value=1000),
)
def test_float32_rounds_to_nearest_for_any_scale(values, scale):
    data = DataSet(
        np.array([values], dtype=np.int64), np.array([0]), (len(values),), 1, scale=scale
    )
    for e, r in zip(data.sample(0), data.float32(0), strict=True):
        distance = abs(Fraction(float(r)) - e)
        for direction in (-np.inf, np.inf):
            neighbour = np.nextafter(r, np.float32(direction))
            assert distance <= abs(Fraction(float(neighbour)) - e)


def test_float_points_are_what_they_are():
    data = DataSet(np.array([[0.1, 2.0]]), np.array([0]), (2,), 1)
    assert data.sample(0) == (Fraction(0.1), Fraction(2))
    assert data.float32(0)[0] == np.float32(0.1)
    assert not data.is_image
    with pytest.raises(DataError, match="beyond the float32 range"):
        DataSet(np.array([[1e39]]), np.array([0]), (1,), 1).float32(0)


def test_a_set_is_read_only_and_can_be_cut():
    data = load_dataset("digits").subset(slice(10, 13))
    assert len(data) == 3
    with pytest.raises(ValueError, match="read-only"):
        data.points[0, 0] = 1
    with pytest.raises(DataError, match=r"no point 3, the set has 3 \(0\.\.2\)"):
        data.sample(3)
    with pytest.raises(DataError, match="no point -1"):
        data.float32(-1)


# Readers -----------------------------------------------------------------------------------------


def test_idx_folder_and_its_splits(idx_folder):
    train = load_dataset(f"{idx_folder}:train")
    assert train.points.tolist() == IMAGES[:2].reshape(2, 4).tolist()
    assert train.labels.tolist() == [2, 0]
    assert (train.shape, train.n_classes, train.scale) == ((2, 2), 3, Fraction(1, 255))
    assert load_dataset(f"{idx_folder}:test").labels.tolist() == [1]
    assert load_dataset(str(idx_folder)).labels.tolist() == [2, 0, 1]
    assert load_dataset(str(idx_folder), default_split="test").labels.tolist() == [1]
    assert train.is_image


@pytest.mark.parametrize("code", [8, 9, 11, 12, 13, 14])
def test_every_idx_type(tmp_path, code):
    array = np.array([[0, 1, 2], [100, 101, 102]])
    path = tmp_path / "a-idx2"
    path.write_bytes(idx(array, code))
    assert read_idx(path).tolist() == array.tolist()


def test_cifar_folder(tmp_path):
    for k in (1, 2):
        (tmp_path / f"data_batch_{k}.bin.gz").write_bytes(gzip.compress(cifar([k, 9], k)))
    (tmp_path / "test_batch.bin").write_bytes(cifar([3]))
    train = load_dataset(f"{tmp_path}:train")
    assert train.labels.tolist() == [1, 9, 2, 9]
    assert (train.shape, train.n_classes) == ((3, 32, 32), 10)
    assert train.points[2].tobytes() == cifar([2, 9], 2)[1:3073]
    assert train.label_name(9) == "truck"
    assert len(load_dataset(f"{tmp_path}:test")) == 1
    assert len(load_dataset(str(tmp_path))) == 5


def test_npz(tmp_path):
    path = tmp_path / "a.npz"
    np.savez_compressed(path, x=IMAGES, y=LABELS)
    data = load_dataset(str(path))
    assert data.points.tolist() == IMAGES.reshape(3, 4).tolist()
    assert (data.scale, data.shape) == (Fraction(1, 255), (2, 2))
    np.savez(path, x=IMAGES, y=LABELS, scale=np.array([1, 16]))
    assert load_dataset(str(path)).scale == Fraction(1, 16)
    np.savez(path, x=np.asfortranarray(IMAGES / 7.0), y=LABELS)
    assert load_dataset(str(path)).sample(1)[2] == Fraction(float(IMAGES[1, 1, 0]) / 7.0)
    np.savez(path, x_train=IMAGES[:2], y_train=LABELS[:2], x_test=IMAGES[2:], y_test=LABELS[2:])
    assert [len(load_dataset(f"{path}{s}")) for s in ("", ":train", ":test")] == [3, 2, 1]


def test_csv_keeps_decimals_exactly(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("0.1,-2,1\n5e-3,7,0\n")
    data = load_dataset(str(path))
    assert data.sample(0) == (Fraction(1, 10), Fraction(-2))
    assert data.sample(1)[0] == Fraction(1, 200)
    assert data.labels.tolist() == [1, 0]


def test_csv_with_a_header_and_words(tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(gzip.compress(b"Label,a,b\ncat,1,2\n\nant,3,1e-200\n"))
    data = load_dataset(str(path))
    assert data.label_names == ("ant", "cat")
    assert data.labels.tolist() == [1, 0]
    assert data.sample(1) == (Fraction(3), Fraction(1e-200))


@pytest.mark.parametrize(
    ("text", "labels", "names"),
    [
        ("1,-1\n2,+1\n3,-1\n", [0, 1, 0], ("-1", "1")),
        ("1,3\n2,1000000\n3,-20\n", [1, 2, 0], ("-20", "3", "1000000")),
        ("1,3\n2,999999\n", [3, 999999], ()),
    ],
)
def test_csv_with_integers_that_are_no_class_numbers(tmp_path, text, labels, names):
    path = tmp_path / "a.csv"
    path.write_text(text)
    data = load_dataset(str(path))
    assert (data.labels.tolist(), data.label_names) == (labels, names)


def test_importing_the_structure_does_not_import_scikit_learn():
    code = "import constructions.dataset, sys; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# Damage ------------------------------------------------------------------------------------------

GOOD = idx(IMAGES)
BAD_IDX = {
    "empty": (b"", "byte 0: not an IDX file"),
    "magic": (b"\1" + GOOD[1:], "not an IDX file, its magic number is '01000803'"),
    "type": (b"\0\0\7" + GOOD[3:], "magic number is '00000703'"),
    "rank 0": (b"\0\0\x08\0", "magic number"),
    "short sizes": (GOOD[:9], "byte 9: truncated inside the 3 sizes"),
    "truncated": (GOOD[:-1], r"byte 27: sizes \(3, 2, 2\) need 28 bytes, the file has 27"),
    "too long": (GOOD + b"x", "byte 28: .* need 28 bytes, the file has 29"),
    "announces terabytes": (
        b"\0\0\x0e\3" + struct.pack(">3I", *[2**32 - 1] * 3),
        "the file has 16",
    ),
    "gzip cut": (gzip.compress(GOOD)[:-9], "damaged or truncated gzip"),
}


@pytest.mark.parametrize("name", BAD_IDX)
def test_damaged_idx(idx_folder, name):
    data, message = BAD_IDX[name]
    path = idx_folder / "t10k-images-idx3-ubyte.gz"
    path.unlink()
    path = idx_folder / "t10k-images-idx3-ubyte"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(f"{idx_folder}:test")
    assert str(path) in str(caught.value)


def test_idx_pairs_that_do_not_fit(idx_folder):
    labels = idx_folder / "t10k-labels-idx1-ubyte"
    labels.write_bytes(idx(LABELS[:2]))
    with pytest.raises(DataError, match="1 points, but t10k-labels-idx1-ubyte has 2 labels"):
        load_dataset(f"{idx_folder}:test")
    labels.write_bytes(idx(IMAGES))
    with pytest.raises(DataError, match="expected an array of points and a list of labels"):
        load_dataset(f"{idx_folder}:test")
    labels.write_bytes(idx(np.array([-1]), 9))
    with pytest.raises(DataError, match="label -1 of point 0 is negative"):
        load_dataset(f"{idx_folder}:test")
    labels.unlink()
    with pytest.raises(DataError, match="the file with its labels is missing"):
        load_dataset(f"{idx_folder}:test")


def test_damaged_cifar(tmp_path):
    path = tmp_path / "test_batch.bin"
    for data, message in (
        (b"", "byte 0: 0 bytes are not a whole number"),
        (cifar([1, 2])[:-1], "byte 3073: 6145 bytes are not a whole number of records"),
        (cifar([1, 10]), "byte 3073: label 10 of record 1"),
    ):
        path.write_bytes(data)
        with pytest.raises(DataError, match=message):
            load_dataset(str(tmp_path))


def npz(**members):
    """A zip file with raw members."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)
    return stream.getvalue()


def npy(array):
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def hostile_header(shape):
    """An .npy that announces more than it holds."""
    stream = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, header)
    return stream.getvalue()


BAD_NPZ = {
    "empty": (b"", "not an NPZ file"),
    "no zip": (b"PK\3\4nonsense", "not an NPZ file"),
    "truncated": (npz(x=npy(IMAGES), y=npy(LABELS))[:-30], "not an NPZ file"),
    "wrong names": (npz(a=npy(IMAGES)), "expected arrays x and y, .*; found a"),
    "objects": (npz(x=npy(np.array([[{}]], dtype=object)), y=npy(LABELS)), "holds object"),
    "text": (npz(x=npy(np.array([["a"]])), y=npy(LABELS)), "holds <U1, not numbers"),
    "complex": (npz(x=npy(IMAGES * 1j), y=npy(LABELS)), "holds complex128"),
    "no array": (npz(x=b"hello", y=npy(LABELS)), "x.npy is not a NumPy array"),
    "announces terabytes": (npz(x=hostile_header((10**6, 10**6)), y=npy(LABELS)), "do not fit"),
    "sizes": (npz(x=npy(IMAGES), y=npy(LABELS[:2])), "do not fit labels of shape"),
    "rank": (npz(x=npy(LABELS), y=npy(LABELS)), "do not fit labels"),
    "NaN": (npz(x=npy(np.full((3, 1), np.nan)), y=npy(LABELS)), "coordinate 0 of point 0 is nan"),
    "float labels": (npz(x=npy(IMAGES), y=npy(LABELS * 1.0)), "labels must be n integers"),
    "no points": (npz(x=npy(IMAGES[:0]), y=npy(LABELS[:0])), "the set is empty"),
    "scale": (npz(x=npy(IMAGES), y=npy(LABELS), scale=npy(np.array([0, 1]))), "two positive"),
    "classes": (npz(x=npy(IMAGES), y=npy(np.array([1, 2, 10**9]))), "1000000001 classes"),
}


@pytest.mark.parametrize("name", BAD_NPZ)
def test_damaged_npz(tmp_path, name):
    data, message = BAD_NPZ[name]
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(str(path))
    assert str(path) in str(caught.value)


BAD_CSV = {
    "empty": ("", "the file is empty"),
    "one column": ("1\n2\n", ":1: a line needs a coordinate and a label"),
    "header only": ("a,label\n", "a header but no points"),
    "no label column": ("a,b\n1,2\n", ":1: the header must name exactly one"),
    "two label columns": ("a,y,label\n1,2,3\n", "exactly one"),
    "ragged": ("1,2,0\n1,0\n", ":2: 2 columns, expected 3"),
    "no number": ("1,2,0\n1,x,0\n", ":2: column 2: 'x' is not a number"),
    "NaN": ("1,2,0\n1,nan,0\n", ":2: column 2: nan is not a finite number"),
    "infinity": ("1,2,0\n-Infinity,1,0\n", ":2: column 1: -Infinity is not"),
    "huge": ("1,2,0\n1e999999,1,0\n", ":2: column 1: '1e999999' is beyond the float64 range"),
    "fractional label": ("1,0.5\n", "label '0.5': expected"),
    "missing label": ("1,2\n1,\n", ":2: label '': expected"),
    "mixed labels": ("1,cat\n1,2\n", ":1: label 'cat': expected"),
    "quote": ('1,"2\n', ":2: unexpected end of data|:1: unexpected end of data"),
    "binary": ("\0\1\2,1\n", "header must name|is not a number"),
}


@pytest.mark.parametrize("name", BAD_CSV)
def test_damaged_csv(tmp_path, name):
    text, message = BAD_CSV[name]
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        load_dataset(str(path))
    assert str(path) in str(caught.value)


def test_places_without_a_data_set(tmp_path):
    with pytest.raises(DataError, match="neither a bundled name"):
        load_dataset("nowhere")
    with pytest.raises(DataError, match="no data set here"):
        load_dataset(str(tmp_path))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=r"expected a folder, an \.npz or a \.csv"):
        load_dataset(str(tmp_path / "a.txt"))
    with pytest.raises(DataError, match="cannot be read: No such file"):
        load_dataset(str(tmp_path / "a.csv"))
    (tmp_path / "b.csv").write_bytes(b"\xff\xfe1,2")
    with pytest.raises(DataError, match="byte 0 is not UTF-8"):
        load_dataset(str(tmp_path / "b.csv"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"points": np.zeros((0, 2))}, "0 points but 2 labels"),
        ({"points": np.zeros(2)}, r"must be an \(n, d\) array"),
        ({"points": np.array([[1, 2], [3, np.inf]])}, "coordinate 1 of point 1 is inf"),
        ({"labels": np.array([0, 2])}, r"label 2 of point 1 is not one of the 2 classes 0\.\.1"),
        ({"labels": np.array([0.0, 1.0])}, "labels must be n integers"),
        ({"shape": (3,)}, r"shape \(3,\) does not hold 2 numbers"),
        ({"scale": Fraction(0)}, "scale 0 must be positive"),
        ({"points": np.ones((2, 2)), "scale": Fraction(1, 2)}, "and 1 for floats"),
        ({"label_names": ("a",)}, "1 label names for 2 classes"),
        ({"n_classes": 0}, "0 classes"),
    ],
)
def test_the_structure_refuses(changes, message):
    good = {
        "points": np.array([[1, 2], [3, 4]]),
        "labels": np.array([0, 1]),
        "shape": (2,),
        "n_classes": 2,
    }
    DataSet(**good)
    with pytest.raises(DataError, match=message):
        DataSet(**{**good, **changes})
