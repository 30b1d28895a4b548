import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    SubsetRandomSampler,
    TensorDataset,
)

import fastent as fe
from fastent.arrays.pairs import pair_in

X = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
y = np.arange(40) % 3
TENSORS = TensorDataset(torch.tensor(X), torch.tensor(y))


class Pictures(Dataset):
    """As torchvision's data sets without a transform: pictures of Pillow with whole numbers."""

    def __init__(self, sizes=(4, 4)):
        self.sizes = sizes

    def __len__(self):
        return 6

    def __getitem__(self, i):
        from PIL import Image

        if i >= len(self):
            raise IndexError(i)
        size = self.sizes[i % 2]
        return Image.fromarray(np.full((size, 5, 3), 10 * i, np.uint8)), i % 2


class Stream(IterableDataset):
    def __iter__(self):
        return iter(TENSORS)


class Items(Dataset):
    """Points and labels one by one."""

    def __init__(self, points, labels):
        self.points, self.labels = points, labels

    def __len__(self):
        return len(self.points)

    def __getitem__(self, i):
        return self.points[i], self.labels[i]


@pytest.mark.parametrize(
    "data",
    [
        (X, y),
        (torch.tensor(X), y.tolist()),
        {"data": X, "target": y, "DESCR": "as scikit-learn's Bunch"},
        {"x_train": X, "y_train": y},
        TENSORS,
        Stream(),
        DataLoader(TENSORS, batch_size=7),
        DataLoader(TENSORS, batch_size=7, shuffle=True, drop_last=True),
        DataLoader(TENSORS, batch_size=None),
        DataLoader(Stream(), batch_size=7),
        TensorDataset(torch.tensor(X).requires_grad_(), torch.tensor(y)),
        DataLoader(TENSORS, batch_sampler=BatchSampler(SequentialSampler(TENSORS), 7, drop_last=False)),
        Items(X, y[:, None]),
        TensorDataset(torch.tensor(X), torch.tensor(y[:, None])),
    ],
    ids=lambda data: type(data).__name__,
)
def test_points_with_labels_in_one_object(data):
    points, labels = pair_in(data)
    np.testing.assert_array_equal(torch.as_tensor(points).detach(), X)
    np.testing.assert_array_equal(np.asarray(labels), y)
    assert fe.measure(data, metrics="mixing").labels.tolist() == y.tolist()


def test_two_paths(tmp_path):
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "y.npy", y)
    paths = str(tmp_path / "X.npy"), tmp_path / "y.npy"
    assert fe.measure(paths, metrics="mixing").labels.tolist() == y.tolist()


def test_pictures_of_a_data_set():
    points, labels = pair_in(Pictures())
    assert points.shape == (6, 4, 5, 3)
    assert points[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 40, 50]
    assert labels.tolist() == [0, 1] * 3


def test_another_sampler_is_taken_as_it_draws():
    some = SubsetRandomSampler(range(10))
    for loader in (
        DataLoader(TENSORS, batch_size=4, sampler=SequentialSampler(range(10))),
        DataLoader(TENSORS, batch_size=4, sampler=RandomSampler(TENSORS, num_samples=10)),
        DataLoader(TENSORS, batch_size=4, sampler=RandomSampler(TENSORS, replacement=True, num_samples=10)),
        DataLoader(TENSORS, batch_size=4, sampler=some),
        DataLoader(TENSORS, batch_sampler=BatchSampler(some, 4, drop_last=False)),
    ):
        with pytest.warns(UserWarning, match="rows are numbered in the order in which the DataLoader yields them"):
            points, labels = pair_in(loader)
        assert len(points) == len(labels) == 10


def test_with_replacement_rows_are_those_drawn():
    with pytest.warns(UserWarning, match="in the order in which"):
        points, _ = pair_in(DataLoader(TENSORS, batch_size=8, sampler=RandomSampler(TENSORS, replacement=True)))
    assert points.shape == X.shape
    assert len(np.unique(points, axis=0)) < len(X)


def test_workers_with_a_copy_of_the_rows_each_do_not_repeat_them():
    points, labels = pair_in(DataLoader(Stream(), batch_size=7, num_workers=2))
    np.testing.assert_array_equal(points, X)
    np.testing.assert_array_equal(labels, y)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            [0, "0", 1],
            "yields labels of types int64 and <U1, first in row 1: classes are integers, strings or booleans, all of",
        ),
        ([0, 1, False], "yields labels of types int64 and bool, first in row 2"),
        (np.eye(3), "its labels have shape (3,): use labels.argmax(-1) for one-hot rows"),
        (np.eye(4)[:3], "its labels have shape (4,): use labels.argmax(-1) for one-hot rows"),
    ],
)
def test_labels_of_items_that_are_no_classes(labels, message):
    with pytest.raises(fe.FastentError, match=re.escape(message)):
        fe.measure(Items(X[:3], labels))
    if isinstance(labels, np.ndarray):
        with pytest.raises(fe.FastentError, match=re.escape(message)):
            fe.measure(DataLoader(Items(X[:3], labels), batch_size=2))


def test_labels_are_given_once():
    for data, kind in ((TENSORS, "TensorDataset"), ((X, y), "pair"), ({"X": X, "y": y}, "dict")):
        for function in (fe.measure, fe.train, fe.geometry):
            with pytest.raises(
                fe.FastentError, match=f"X is a {kind}, which holds labels too, and labels are given: leave lab"
            ):
                function(data, y)


def test_neighbors_take_the_points():
    expected = fe.neighbors(X, 3).indices
    for data in (TENSORS, DataLoader(TENSORS, batch_size=7, shuffle=True), (X, y), {"X": X}):
        np.testing.assert_array_equal(fe.neighbors(data, 3).indices, expected)
    assert fe.near_duplicates((X, y), 0.1).n == len(X)


@pytest.mark.parametrize(
    ("data", "what"),
    [
        ([X, y], r"list of ndarray \(40, 3\) and ndarray \(40,\)"),
        ((X.tolist(), y.tolist()), "tuple of list of 40 and list of 40"),
    ],
)
def test_a_pair_of_another_kind_is_named(data, what):
    with pytest.raises(fe.FastentError, match=f"X is a {what}: points with labels in one are a tuple of an array"):
        fe.measure(data)


def test_train():
    for data in (TENSORS, DataLoader(TENSORS, batch_size=8, shuffle=True), load_digits()):
        assert fe.train(data, epochs=1, seeds=1).config["epochs"] == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            TensorDataset(torch.tensor(X)),
            "yields (Tensor), not points with labels: pass X and labels, or record a model's layers",
        ),
        (DataLoader(TensorDataset(torch.tensor(X))), "the DataLoader yields (Tensor), not points"),
        (Pictures((4, 5)), "yields points of shapes (4, 5, 3) and (5, 5, 3)"),
        (TensorDataset(torch.tensor(X[:0]), torch.tensor(y[:0])), "empty"),
        ({"points": X, "y": y}, "the mapping holds points, y: X and y are needed"),
        (X, "labels are missing"),
    ],
)
def test_what_holds_no_labels(data, message):
    with pytest.raises(fe.FastentError, match=re.escape(message)):
        fe.measure(data)


def test_a_file_that_cannot_be_read_is_refused_for_that(tmp_path):
    torch.save({"x": torch.tensor(X)}, tmp_path / "x.pt")
    with pytest.raises(fe.FastentError, match=r"x\.pt"):
        fe.measure(tmp_path / "x.pt")
