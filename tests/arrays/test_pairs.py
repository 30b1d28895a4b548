import re

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.utils.data import BatchSampler, DataLoader, Dataset, IterableDataset, SubsetRandomSampler, TensorDataset

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
        DataLoader(TENSORS, batch_size=4, sampler=some),
        DataLoader(TENSORS, batch_sampler=BatchSampler(some, 4, drop_last=False)),
    ):
        with pytest.warns(UserWarning, match="rows are numbered in the order in which the DataLoader yields them"):
            points, labels = pair_in(loader)
        assert len(points) == len(labels) == 10


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
