import contextlib
import gzip
import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits, load_iris
from sklearn.model_selection import train_test_split

import fastent as fe
from fastent.data import datasets
from fastent.data.datasets import read_dataset
from fastent.data.formats import read_cifar10, read_idx
from fastent.data.splitting import split_rows
from fastent.data.training_set import reload_data

MNIST = Path(os.environ.get("FASTENT_DATA", Path(__file__).parents[2] / "../shared/data")) / "mnist.npz"
RNG = np.random.default_rng(0)


def write_idx(path, values, compress=False):
    content = struct.pack(f">BBBB{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if compress else content)


@pytest.fixture
def small():
    """Twelve training and five test pictures of 4 x 4, three labels."""
    x = RNG.integers(0, 255, (17, 4, 4), np.uint8)
    y = np.arange(17) % 3
    return {"x_train": x[:12], "y_train": y[:12], "x_test": x[12:], "y_test": y[12:]}


def assert_same_data(raw, parts):
    for name, value in parts.items():
        np.testing.assert_array_equal(getattr(raw, name), value)


def write_original(folder, parts, dots=False, compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    for stem, key in (("train", "train"), ("t10k", "test")):
        for kind, rank, letter in (("images", 3, "x"), ("labels", 1, "y")):
            name = f"{stem}-{kind}{'.' if dots else '-'}idx{rank}-ubyte{'.gz' if compress else ''}"
            write_idx(folder / name, parts[f"{letter}_{key}"], compress)


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("dots", [True, False])
@pytest.mark.parametrize("compress", [True, False])
def test_original_mnist_files(tmp_path, small, place, dots, compress):
    write_original(tmp_path / place, small, dots, compress)
    assert_same_data(read_dataset("mnist", data_dir=tmp_path), small)


def test_files_of_one_name_are_told_apart_by_folder(tmp_path, small):
    write_original(tmp_path, small)
    with pytest.raises(fe.FastentError, match="no kmnist in"):
        read_dataset("kmnist", data_dir=tmp_path)
    write_original(tmp_path / "FashionMNIST" / "raw", small)
    assert_same_data(read_dataset("Fashion_MNIST", data_dir=tmp_path), small)


def test_named_npz(tmp_path, small, monkeypatch):
    np.savez(tmp_path / "kmnist.npz", **small)
    assert_same_data(read_dataset("kmnist", data_dir=tmp_path), small)
    monkeypatch.setenv("FASTENT_DATA", str(tmp_path))
    assert_same_data(read_dataset("kmnist"), small)


@pytest.fixture
def cifar(tmp_path):
    pictures = RNG.integers(0, 255, (12, 32, 32, 3), np.uint8)
    labels = np.arange(12) % 10
    planes = pictures.transpose(0, 3, 1, 2).reshape(12, -1)
    return tmp_path, pictures, labels, planes


def test_stragglers_of_other_data_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 3)), np.arange(60) % 3
    rows = np.arange(6)
    place = tmp_path / "stragglers.csv"

    def listed(labels):
        lines = [f"{row},{label}" for row, label in zip(rows, labels, strict=True)]
        place.write_text("\n".join(["index,label", *lines]) + "\n")

    for labels in (y, y.astype(float), np.array(["true", "false", "7"])[y], np.array([b"u", b"v", b"w"])[y], y == 0):
        listed(each.decode() if isinstance(each, bytes) else each for each in labels[rows])
        assert len(fe.load_data((X, labels, X, labels), exclude=place).index) == 60 - 6
    listed((y[rows] + 1) % 3)
    with pytest.raises(
        fe.FastentError, match=r"stragglers.csv' is of other data: 6 of its 6 rows have other labels there, first r"
    ):
        fe.load_data((X, y, X, y), exclude=place)
    digits = fe.load_data("digits")
    place.write_text(f"index,label\n{digits.index[0]},{digits.labels[0]}\n")
    (tmp_path / "config.json").write_text('{"source": "mnist"}')
    with pytest.raises(
        fe.FastentError, match="is of a run on mnist, not digits: name a list of these data, or save its row num"
    ):
        fe.load_data("digits", exclude=place)


def test_a_run_to_resume_with_fewer_rows_names_the_option():
    X, y = np.random.default_rng(0).standard_normal((60, 3)), np.arange(60) % 3
    run = fe.train(fe.load_data((X, y), exclude=fe.load_data((X, y)).index[:6]), seeds=1, epochs=1)
    with pytest.raises(
        fe.FastentError, match=r"other training points .*: it left out 6 rows, and here 0 are, see exclude= and --"
    ):
        fe.train((X, y), seeds=1, epochs=1, resume=run)


def test_cifar_binary_version(cifar):
    folder, pictures, labels, planes = cifar
    place = folder / "cifar-10-batches-bin"
    place.mkdir()
    for i, name in enumerate([*(f"data_batch_{j}.bin" for j in range(1, 6)), "test_batch.bin"]):
        rows = slice(2 * i, 2 * i + 2)
        np.column_stack([labels[rows], planes[rows]]).astype(np.uint8).tofile(place / name)
    raw = read_dataset("cifar10", data_dir=folder)
    np.testing.assert_array_equal(raw.x_train, pictures[:10])
    np.testing.assert_array_equal(raw.y_test, labels[10:])


@pytest.mark.parametrize("protocol", [2, 4])
def test_cifar_python_version(cifar, protocol):
    folder, pictures, labels, planes = cifar
    for i, name in enumerate([*(f"data_batch_{j}" for j in range(1, 6)), "test_batch"]):
        rows = slice(2 * i, 2 * i + 2)
        batch = {b"data": planes[rows], b"labels": labels[rows].tolist(), b"batch_label": b"x"}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=protocol))
    raw = read_dataset("cifar10", data_dir=folder)
    np.testing.assert_array_equal(raw.x_train, pictures[:10])
    np.testing.assert_array_equal(raw.x_test, pictures[10:])


class Malicious:
    def __reduce__(self):
        return (os.system, ("touch harmed",))


def test_a_pickle_cannot_run_anything(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "data_batch_1"
    path.write_bytes(pickle.dumps({b"data": Malicious(), b"labels": [1]}))
    with pytest.raises(fe.FastentError, match=r"is no batch of CIFAR-10 .it asks for .*system"):
        read_cifar10(path)
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no IDX file"),
        (b"\0\0\x0d\x01\0\0\0\x02ab", "no IDX file"),
        (b"\0\0\x08\x01\0\0\0\x05ab", "has 2 values, its header promises \\(5,\\)"),
    ],
)
def test_damaged_idx(tmp_path, content, message):
    path = tmp_path / "train-labels-idx1-ubyte"
    path.write_bytes(content)
    with pytest.raises(fe.FastentError, match=message):
        read_idx(path)
    packed = tmp_path / "cut.gz"
    packed.write_bytes(gzip.compress(b"x" * 1000)[:20])
    with pytest.raises(fe.FastentError, match="cannot be read"):
        read_idx(packed)


def test_damaged_cifar(tmp_path):
    (tmp_path / "data_batch_1.bin").write_bytes(b"123")
    with pytest.raises(fe.FastentError, match="has 3 bytes, no multiple of 3073"):
        read_cifar10(tmp_path / "data_batch_1.bin")


def test_openml(monkeypatch, small):
    x = np.concatenate([small["x_train"], small["x_test"]])
    pictures = np.zeros((17, 28, 28), np.uint8)
    pictures[:, :4, :4] = x
    labels = np.concatenate([small["y_train"], small["y_test"]]).astype(str)
    fetched = sklearn.utils.Bunch(data=pictures.reshape(17, -1).astype(float), target=labels)
    monkeypatch.delenv("FASTENT_DATA", raising=False)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", lambda name, version, as_frame: fetched)
    monkeypatch.setattr("fastent.data.datasets.find_spec", lambda name: True)
    monkeypatch.setitem(datasets._TRAIN_ROWS, "mnist", 12)
    raw = read_dataset("mnist")
    np.testing.assert_array_equal(raw.x_train, pictures[:12])
    np.testing.assert_array_equal(raw.y_test, small["y_test"])


def test_offline(monkeypatch):
    def unreachable(*args, **kwargs):
        raise OSError("no route to host")

    monkeypatch.delenv("FASTENT_DATA", raising=False)
    monkeypatch.setattr("fastent.data.datasets.find_spec", lambda name: True)
    monkeypatch.setattr(sklearn.datasets, "fetch_openml", unreachable)
    with pytest.raises(fe.FastentError, match=r"no route to host\): put mnist.npz .* --data-dir, data_dir= or FASTENT_DATA"):
        read_dataset("mnist")
    monkeypatch.setattr("fastent.data.datasets.find_spec", lambda name: None)
    with pytest.raises(fe.FastentError, match=r"pip install '\.\[openml\]' in the clone"):
        read_dataset("mnist")


def test_npy_pair_and_arrays_are_split_alike(tmp_path):
    X, y = RNG.standard_normal((40, 3)), np.arange(40) % 4
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    np.savez(tmp_path / "Xy.npz", X=X, y=y)
    first = read_dataset(tmp_path / "X.npy", labels=tmp_path / "y.npy")
    assert len(first.x_train) == 30
    assert np.bincount(first.y_train).tolist() == [8, 8, 7, 7] or np.bincount(first.y_train).max() <= 8
    for other in (
        read_dataset((X, y)),
        read_dataset(tmp_path / "Xy.npz"),
        read_dataset({"X": torch.tensor(X), "y": list(y)}),
    ):
        np.testing.assert_array_equal(first.x_train, other.x_train)
        np.testing.assert_array_equal(first.y_test, other.y_test)
    assert (read_dataset((X, y), split_seed=1).y_test != first.y_test).any()


def test_row_numbers_are_those_of_the_data_before_the_split(tmp_path):
    X, y = np.random.default_rng(0).random((60, 3)), np.arange(60) % 4
    np.savez(tmp_path / "own.npz", X=X, y=y)
    data = fe.load_data(tmp_path / "own.npz", classes="all", standardize="none")
    assert len(data.index) == 45
    np.testing.assert_allclose(data.x_train, X[data.index], rtol=1e-6)
    np.testing.assert_array_equal(data.labels, y[data.index])
    fewer = fe.load_data(tmp_path / "own.npz", classes="all", standardize="none", exclude=data.index[:5])
    np.testing.assert_array_equal(fewer.index, data.index[5:])


@given(st.lists(st.integers(2, 30), min_size=1, max_size=8), st.integers(0, 2**32 - 1), st.booleans())
def test_test_sets_are_scikit_learns(counts, seed, stratified):
    codes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    stratified = stratified and len(counts) <= 0.25 * len(codes)
    codes = codes if stratified else None
    theirs = train_test_split(np.arange(sum(counts)), test_size=0.25, random_state=seed, stratify=codes)
    for ours, rows in zip(split_rows(sum(counts), 0.25, seed, codes), theirs, strict=True):
        np.testing.assert_array_equal(ours, np.sort(rows))


@pytest.mark.parametrize("there", [True, False])
def test_digits_are_scikit_learns(there, monkeypatch):
    if not there:  # a version of scikit-learn that keeps its file elsewhere
        monkeypatch.setattr(datasets, "find_spec", lambda name: None)
    raw, whole = read_dataset("digits"), load_digits()
    np.testing.assert_array_equal(raw.x_train, whole.images[raw.rows])
    np.testing.assert_array_equal(raw.y_train, whole.target[raw.rows])
    assert len(raw.x_train) + len(raw.x_test) == len(whole.images)
    assert (raw.x_train.dtype, raw.y_train.dtype) == (whole.images.dtype, whole.target.dtype)


def test_digits_are_split_once_and_for_all():
    data = fe.load_data("digits", classes="all")
    assert (len(data.y_train), len(data.y_test)) == (1347, 450)
    shares = np.bincount(data.y_train) / 1347
    np.testing.assert_allclose(shares, np.bincount(data.y_test) / 450, atol=0.003)
    assert data.fingerprint == fe.load_data("digits", classes="all").fingerprint != fe.load_data("digits").fingerprint


@pytest.fixture
def pictures():
    """Pictures with a pixel that never varies in training but does in the test set."""
    x_train, x_test = RNG.integers(0, 255, (50, 5, 5), np.uint8), RNG.integers(0, 255, (20, 5, 5), np.uint8)
    x_train[:, 0, 0] = 7
    return {"x_train": x_train, "y_train": np.arange(50) % 10, "x_test": x_test, "y_test": np.arange(20) % 10}


def test_standardisation(pictures):
    flat = pictures["x_train"].reshape(50, -1).astype(np.float64)
    mean, std = flat.mean(0), flat.std(0, ddof=1)
    expected = (pictures["x_test"].reshape(20, -1) - mean) / (std + 1e-9)
    paper = fe.load_data(pictures, standardize="paper")
    np.testing.assert_allclose(paper.x_test, expected, rtol=1e-6)
    assert np.abs(paper.x_test[:, 0]).max() > 1e8
    assert not paper.x_train[:, 0].any()
    safe = fe.load_data(pictures)
    expected[:, 0] = 0
    np.testing.assert_allclose(safe.x_test, expected, rtol=1e-6)
    np.testing.assert_array_equal(safe.x_train[:, 1:], paper.x_train[:, 1:])
    plain = fe.load_data(pictures, standardize="none")
    np.testing.assert_array_equal(plain.x_train, flat)


def test_a_constant_that_rounding_blurs_is_constant():
    X = np.full((1000, 2), 0.1)
    X[:, 1] = RNG.standard_normal(1000)
    data = fe.load_data((X, np.arange(1000) % 2))
    assert not data.x_train[:, 0].any()
    assert not data.x_test[:, 0].any()


@pytest.mark.parametrize(("size", "offset"), [(1e-12, 0), (1e-12, 1), (1e-3, 1e9), (1e30, 0)])
def test_what_varies_is_not_taken_for_constant(size, offset):
    varying = offset + size * RNG.standard_normal(200)
    X = np.column_stack([varying, RNG.standard_normal(200)])
    data = fe.load_data((X, np.arange(200) % 2, X, np.arange(200) % 2))
    constant = 1e-9 * min(1.0, abs(varying.mean()) + varying.std(ddof=1))
    deviations, found = varying - offset, data.x_train[:, 0].astype(float)  # the first exactly
    np.testing.assert_allclose(
        found - found.mean(), (deviations - deviations.mean()) / (deviations.std(ddof=1) + constant), rtol=1e-3, atol=1e-6
    )
    # The mean that is taken off is one double, rounded; as a share of what varies.
    assert abs(found.mean()) <= 1e-6 + np.spacing(float(offset)) / size
    assert data.x_train[:, 0].any()


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e100])
def test_units_of_features_do_not_matter(scale):
    X, y = RNG.standard_normal((100, 5)) + 3, np.arange(100) % 2
    usual, scaled = fe.load_data((X, y, X, y)), fe.load_data((X * scale, y, X * scale, y))
    np.testing.assert_allclose(scaled.x_train, usual.x_train, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("scale", [1e-170, 1e170])
def test_features_whose_squares_are_out_of_range(scale):
    X = RNG.standard_normal((100, 5))
    X[:, 3] *= scale
    with pytest.raises(fe.FastentError, match=r"1 features of the training points vary by up to .*, first column 3,"):
        fe.load_data((X, np.arange(100) % 2))
    with pytest.raises(fe.FastentError, match="first column 3"):
        fe.train_streamed(X, np.arange(100) % 2, epochs=1, seeds=1)


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5, "0"])
def test_split_seed(seed):
    with pytest.raises(fe.FastentError, match=r"split_seed=.*: a whole number from 0 to 4294967295 is needed"):
        fe.load_data((np.eye(20), np.arange(20) % 2), split_seed=seed)


@pytest.mark.parametrize("at", [0, 6, 8, 9, 12, 20, 40, 60, 90])
def test_damaged_npy(tmp_path, at):
    np.save(tmp_path / "X.npy", RNG.standard_normal((40, 3)))
    content = bytearray((tmp_path / "X.npy").read_bytes())
    content[at] ^= 0x55
    (tmp_path / "X.npy").write_bytes(content)
    with contextlib.suppress(fe.FastentError):  # nothing else
        fe.load_data(tmp_path / "X.npy", labels=np.arange(40) % 2)


def test_grayscale_sums_the_standardised_channels():
    x = RNG.integers(0, 255, (40, 4, 4, 3), np.uint8)
    data = fe.load_data((x, np.arange(40) % 2), grayscale=True)
    colour = fe.load_data((x, np.arange(40) % 2))
    np.testing.assert_allclose(data.x_train, colour.x_train.reshape(30, 16, 3).sum(2), rtol=1e-6)


def test_subsets(pictures):
    first = fe.load_data(pictures, subset=30)
    assert first.index.tolist() == list(range(30))
    drawn = fe.load_data(pictures, subset=30, subset_seed=3)
    assert (np.diff(drawn.index) > 0).all()
    assert drawn.index.tolist() != first.index.tolist()
    np.testing.assert_array_equal(drawn.raw, pictures["x_train"][drawn.index])
    np.testing.assert_array_equal(drawn.labels, pictures["y_train"][drawn.index])
    np.testing.assert_array_equal(drawn.index, fe.load_data(pictures, subset=30, subset_seed=3).index)


def test_excluding_points_leaves_the_others_as_they_were(pictures):
    whole, part = fe.load_data(pictures, subset=40), fe.load_data(pictures, subset=40, exclude=[3, 39, 0])
    kept = ~np.isin(np.arange(40), [3, 39, 0])
    for name in ("x_train", "y_train", "labels", "index", "raw"):
        np.testing.assert_array_equal(getattr(part, name), getattr(whole, name)[kept])
    np.testing.assert_array_equal(part.x_test, whole.x_test)


def test_classes(pictures):
    parity = fe.load_data(pictures, classes="parity")
    assert parity.classes.tolist() == [0, 1]
    np.testing.assert_array_equal(parity.y_train, pictures["y_train"] % 2)
    named = dict(
        pictures,
        y_train=np.array(list("abcdefghij"))[pictures["y_train"]],
        y_test=np.array(list("abcdefghij"))[pictures["y_test"]],
    )
    every = fe.load_data(named)
    assert every.classes.tolist() == list("abcdefghij")
    np.testing.assert_array_equal(every.y_test, pictures["y_test"])


def test_parity_is_the_default_only_of_data_known_by_name(tmp_path, pictures):
    np.savez(tmp_path / "digits.npz", **pictures)  # a file is one's own, whatever it is called
    for own in (pictures, tmp_path / "digits.npz", load_iris(return_X_y=True)):
        data = fe.load_data(own)
        assert data.options["classes"] == "all"
        assert len(data.classes) == len(np.unique(data.labels)) > 2
    for named in ("digits", "Digits"):
        data = fe.load_data(named)
        assert data.options["classes"] == "parity"
        assert data.classes.tolist() == [0, 1]
    assert len(fe.load_data("digits", classes="all").classes) == 10
    booleans = fe.load_data(dict(pictures, y_train=pictures["y_train"] > 4, y_test=pictures["y_test"] > 4))
    assert booleans.classes.tolist() == [False, True]


def test_the_paper_preset_is_a_subset_and_parity(pictures):
    few = fe.load_data(pictures, preset="paper")
    assert len(few.index) == 50
    assert few.options["classes"] == "parity"
    assert few.options["subset"] == 50  # as decided: a run finds its data again without the preset
    assert len(fe.load_data("digits", preset="paper", subset=100).index) == 100
    assert len(fe.load_data(pictures, preset="paper", classes="all").classes) == 10
    x, y = np.random.default_rng(0).standard_normal((9000, 3)), np.arange(9000) % 5
    many = fe.train((x, y, x, y), preset="paper", seeds=1, epochs=1)
    np.testing.assert_array_equal(many.index, np.arange(8192))
    assert many.parity
    with pytest.raises(fe.FastentError, match="preset='mine'"):
        fe.load_data(pictures, preset="mine")


def test_a_run_finds_its_data_again(tmp_path, pictures):
    np.savez(tmp_path / "own.npz", **pictures)
    run = fe.train(fe.load_data(tmp_path / "own.npz", subset=40, exclude=[5]), seeds=1, epochs=1)
    np.testing.assert_array_equal(reload_data(run.config).index, run.index)
    np.testing.assert_array_equal(reload_data(run.config | {"data_dir": "of no use"}).index, run.index)
    np.savez(tmp_path / "own.npz", **dict(pictures, x_train=255 - pictures["x_train"]))
    with pytest.raises(fe.FastentError, match="the run was trained on"):
        reload_data(run.config)
    with pytest.raises(fe.FastentError, match="the run was given arrays"):
        reload_data(fe.train(pictures, seeds=1, epochs=1).config)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({}, {"subset": 51}, "subset=51: a whole number from 1 to 50 is needed"),
        ({}, {"subset": 0}, "subset=0: a whole number from 1 to 50"),
        ({}, {"subset": 2.5}, "subset=2.5: a whole number from 1 to 50"),
        ({}, {"subset": 5, "subset_seed": -1}, "subset_seed=-1: a whole number of at least 0"),
        ({}, {"exclude": [-1]}, "exclude names 1 rows that are not among the 50 training points, first -1"),
        ({"x_train": np.ones(50)}, {}, "x_train has shape \\(50,\\) and y_train \\(50,\\)"),
        ({"x_train": 3.0}, {}, "x_train has shape \\(\\) and y_train"),
        (
            {"x_test": np.full((20, 5, 5), 1e300)},
            {},
            "x_test, as standardised in float32, has NaN or infinity in 20 of 20 rows",
        ),
        ({}, {"subset_seed": 1}, "subset_seed=1 without subset"),
        ({}, {"exclude": [50]}, "exclude names 1 rows that are not among the 50 training points, first 50"),
        ({}, {"exclude": [0.5]}, "exclude has shape \\(1,\\) and dtype float64: row numbers"),
        ({}, {"exclude": range(50)}, "no training points are left"),
        ({}, {"exclude": range(0, 50, 2), "classes": "parity"}, "y_train holds one class only \\(1\\)"),
        ({}, {"grayscale": True}, "grayscale needs colour pictures \\(n, h, w, 3\\), these have shape \\(50, 5, 5\\)"),
        ({}, {"subset": 1}, "standardisation needs two training points or more"),
        (
            {"y_train": np.array(list("ab") * 25)},
            {"classes": "parity"},
            "classes='parity' needs integer labels, these are like a: use classes='all'",
        ),
        ({"y_test": np.full(20, 11)}, {"classes": "all"}, "the test set has labels that no training point has: 11"),
        ({"x_train": np.full((50, 5, 5), np.nan)}, {}, "x_train has NaN or infinity in 50 of 50 rows, first at row 0"),
        ({"x_test": np.ones((20, 4, 4))}, {}, "training points have shape \\(5, 5\\), test points \\(4, 4\\)"),
        ({"y_train": np.arange(49)}, {}, "x_train has 50 rows but y_train has 49"),
        ({"x_train": None}, {}, "the mapping holds x_test, .*: x_train and y_train \\(or X and y\\) are needed"),
    ],
)
def test_bad_data(pictures, change, options, message):
    with pytest.raises(fe.FastentError, match=message):
        fe.load_data(dict(pictures, **change), **options)


@pytest.mark.parametrize("data", [3, None, (1, 2, 3), [np.ones(3)]])
def test_things_that_are_no_data(data):
    with pytest.raises(fe.FastentError, match="pass a name"):
        fe.load_data(data)


@pytest.mark.skipif(not MNIST.is_file(), reason="no MNIST on this machine")
def test_mnist():
    data = fe.load_data("mnist", data_dir=MNIST.parent, subset=8192)
    assert data.x_train.shape == (8192, 784)
    assert len(data.y_test) == 10_000
    assert data.raw.shape == (8192, 28, 28)
