"""Every refusal is one line that names what was wrong, the value and the remedy."""

import re
import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
import torch
from typer.testing import CliRunner

import fastent as fe
from fastent.cli.main import app
from tests.command import fastent

X = np.arange(12.0).reshape(6, 2)
Y = [0, 1, 0, 1, 0, 1]
NAN = X.copy()
NAN[[2, 4], 1] = np.nan
NET = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
POINTS, CODES = torch.ones(6, 2), torch.tensor(Y)
CURVE = np.linspace(1, 0, 50)

API = [
    (lambda: fe.geometry(NAN, Y), "X has NaN or infinity in 2 of 6 rows, first at row 2, column 1 (nan): drop those rows or repair them"),
    (lambda: fe.geometry(X.ravel(), Y), "X has shape (12,): a 2-D array (points, features) is needed; use X[:, None] for one feature"),
    (lambda: fe.logit_margin(X.reshape(6, 2, 1), Y), "logits has shape (6, 2, 1): a 2-D array (points, features) is needed; use logits.reshape(len(logits), -1)"),
    (lambda: fe.geometry(X[:0], []), "X is empty, shape (0, 2): at least one point and one feature are needed"),
    (lambda: fe.geometry([[1, 2], [3]], Y), "X cannot be made into an array"),
    (lambda: fe.geometry(X.astype(object), Y), "X has dtype object: real numbers are needed; convert with X.astype('float64')"),
    (lambda: fe.geometry(X + 1j, Y), "X has dtype complex128: real numbers are needed; take both parts as features, numpy.hstack([X.real, X.imag])"),
    (lambda: fe.geometry(X.astype(np.longdouble), Y), "X has dtype float128: convert with X.astype('float64')"),
    (lambda: fe.geometry(scipy.sparse.eye(6), Y), "X is a sparse matrix: convert with X.toarray()"),
    (lambda: fe.geometry(torch.eye(6).to_sparse(), Y), "X is a torch.sparse_coo tensor: convert with X.to_dense()"),
    (lambda: fe.geometry(np.ma.masked_less(X, 3), Y), "X is a masked array with gaps in 2 rows, first row 0: drop those rows"),
    (lambda: fe.geometry(X * 1e200, Y, normalize=False), "X has values up to 1.1e+201, whose squares overflow float64: rescale X"),
    (lambda: fe.geometry(X * 1e-200, Y, normalize=False), "X has no value above 1.1e-199, and squares vanish in float64: rescale X"),
    (lambda: fe.geometry(X * 1e-310, Y), "X has rows of a norm below 1e-308, which float64 cannot scale to unit length: rescale X"),
    (lambda: fe.geometry(X, Y[:5]), "X has 6 rows but labels has 5: pass one label for each row"),
    (lambda: fe.geometry(X, np.eye(6)), "labels has shape (6, 6): one label for each point, a 1-D array, is needed; use labels.argmax(1) for one-hot rows"),
    (lambda: fe.geometry(X, [3] * 6), "labels holds one class only (3): at least 2 classes are needed to compare them"),
    (lambda: fe.geometry(X, [0, 1, 0.5, 1, 0, 1]), "labels holds 1 value that is no whole number, first 0.5 at row 2: classes are integers, strings or booleans"),
    (lambda: fe.geometry(X, [0, 1, np.nan, 1, np.nan, 1]), "labels holds 2 values that are no whole numbers, first nan at row 2: classes are integers, strings or booleans"),
    (lambda: fe.geometry(X, np.array([0, "a", 0, 1, 0, None], object)), "labels holds objects of type NoneType, int, str: integers, strings or booleans are needed"),
    (lambda: fe.geometry(X, np.arange(6).astype("datetime64[D]")), "labels has dtype datetime64[D]: integers, strings or booleans are needed"),
    (lambda: fe.ClassMoments(0, 4), "n_classes=0: a whole number of at least 1 is needed"),
    (lambda: fe.ClassMoments(2, 3).update(X, Y), "X has 2 features but these moments were made for 3"),
    (lambda: fe.ClassMoments(2, 2).update(X, [0, 1, 2, 0, 0, 0]), "label 2 is no class number: 0..1 are, for n_classes=2"),
    (lambda: fe.ClassMoments(2, 2).update(X, list("abcdef")), "labels have shape (6,) and dtype <U1: class numbers 0..1, one for each row, are needed; fe.geometry takes labels of any kind"),
    (lambda: fe.ClassMoments(2, 2).compute(), "2 of 2 classes have no points, first 0: drop them"),
    (lambda: fe.ClassMoments(2, 2).merge(fe.ClassMoments(2, 2, normalize=False)), "moments of (n_classes, n_features, normalize, scatter) = (2, 2, False, False) cannot be merged into (2, 2, True, False): make both with the same arguments"),
    (lambda: fe.ClassMoments(2, 2).load_state_dict(fe.ClassMoments(2, 3).state_dict()), "state_dict is for other moments: shift is of shape (2, 3), expected of shape (2, 2)"),
    (lambda: fe.find_inversion(range(50), CURVE[:49], CURVE), "curves of one length are needed, not epoch (50,), curve (49,), train_error (50,): pass one seed, layer and class at a time"),
    (lambda: fe.find_inversion(range(50), CURVE * np.nan, CURVE), "curve has nan at position 0: drop the epochs that were not recorded"),
    (lambda: fe.find_inversion(range(50, 0, -1), CURVE, CURVE), "epoch is not increasing: sort the records by epoch"),
    (lambda: fe.find_inversion(range(-1, 49), CURVE, CURVE), "epoch begins at -1: updates or passes made so far are needed, from 0"),
    (lambda: fe.find_inversion(range(50), CURVE, CURVE, rule="last"), "rule='last': choose one of 'shape', 'interior', 'first-increase'"),
    (lambda: fe.find_inversion(range(50), CURVE, CURVE, min_rise=2), "min_rise=2: a number above 0 and of at most 1 is needed"),
    (lambda: fe.layer_margins(X, []), "model is ndarray: a torch.nn.Module is needed"),
    (lambda: fe.layer_margins(NET, []), "loader has no points: at least one batch of (inputs, labels) is needed"),
    (lambda: fe.layer_margins(NET, [POINTS]), "loader yields a Tensor: pairs of tensors (inputs, labels) are needed"),
    (lambda: fe.layer_margins(NET, [(POINTS, Y)]), "loader yields a tuple of Tensor, list: pairs of tensors (inputs, labels) are needed"),
    (lambda: fe.layer_margins(NET, [(POINTS, CODES[:5])]), "loader yields inputs of shape (6, 2) with labels of shape (5,) and dtype torch.int64: one class number for each row is needed"),
    (lambda: fe.layer_margins(NET, [(POINTS, CODES + 2)]), "the model has outputs 0 to 2, and none for label 3"),
    (lambda: fe.layer_margins(NET, [(POINTS, CODES)], "0"), "layers='0': a sequence of names is needed, for instance ['0']"),
    (lambda: fe.layer_margins(NET, [(POINTS, CODES)], []), "layers is empty: name at least one of model.named_modules(), or '' for the model itself"),
    (lambda: fe.layer_margins(NET, [(POINTS, CODES)], ["fc"]), "model has no layer 'fc': choose from '0', '1', '2'"),
    (lambda: fe.layer_margins(torch.nn.Tanh(), [(POINTS, CODES)]), "model has no linear or convolutional layer: name its layers=, for instance '' for its input"),
    (lambda: fe.layer_margins(NET[:1], [(POINTS * np.nan, CODES)]), "model returns logits that are not finite: there are no margins"),
    (lambda: fe.layer_margins(torch.nn.Linear(2, 1), [(POINTS, CODES)]), "model returns a tensor of shape (6, 1): logits of shape (6, classes), 2 classes or more, are needed"),
    (lambda: fe.layer_margins(torch.nn.Sequential(*[torch.nn.Linear(2, 2)] * 3), [(POINTS, CODES)], ["0"]), "layer '0' is called 3 times in a pass, so it has no one input: choose others"),
    (lambda: fe.layer_margins(torch.nn.Sequential(NET[0], torch.nn.ReLU(inplace=True)), [(POINTS, CODES)], ["1"]), "the input of layer '1' is changed in place afterwards: use inplace=False there"),
    (lambda: fe.train("digits", seeds=0), "seeds=0: a whole number of at least 1 is needed"),
    (lambda: fe.train("digits", epochs=2.5), "epochs=2.5: a whole number from 1 to 10000000 is needed"),
    (lambda: fe.train("digits", hidden=()), "hidden=(): at least one hidden layer is needed, for instance (20,)"),
    (lambda: fe.train("digits", hidden=20), "hidden=20: a sequence of whole numbers is needed, for instance (20,)"),
    (lambda: fe.train("digits", hidden=(20.5,)), "hidden=20.5: a whole number of at least 1 is needed"),
    (lambda: fe.train("digits", lr="fast"), "lr='fast': a number above 0 is needed"),
    (lambda: fe.train("digits", momentum=1), "momentum=1: a number of at least 0 and below 1 is needed"),
    (lambda: fe.train("digits", device="meta"), "device='meta': choose 'cpu' or 'cuda'"),
    (lambda: fe.geometry(X, [0, 1, 1e300, 1, 0, 1]), "labels holds 1 value that is no whole number, first 1e+300 at row 2"),
    (lambda: fe.train("digits", lr=-1), "lr=-1: a number above 0 is needed"),
    (lambda: fe.train("digits", optimizer="lion"), "optimizer='lion': choose one of 'sgd', 'adam'"),
    (lambda: fe.train("digits", optimizer="adam", momentum=0.9), "momentum=0.9: only optimizer='sgd' has a momentum"),
    (lambda: fe.train("digits", device="abacus"), "device='abacus': choose 'cpu' or 'cuda'"),
    (lambda: fe.train("digits", threads=0), "threads=0: a whole number of at least 1 is needed"),
    (lambda: fe.train("digits", threads="2"), "threads='2': a whole number of at least 1 is needed"),
    (lambda: fe.train("digits", threads=10**6), "threads=1000000: from 1 to"),
    (lambda: fe.train("digits", seeds=10**9), "training 1000000000 seeds on 1347 points for 1500 epochs needs about"),
    (lambda: fe.neighbors(NAN, 2), "X has NaN or infinity in 2 of 6 rows, first at row 2, column 1 (nan): drop those rows or repair them"),
    (lambda: fe.neighbors(X * 1e200, 2), "X has values up to 1.1e+201, first in row 0, column 1, whose distances are out of float32's range: leave such rows out, or rescale X"),
    (lambda: fe.neighbors(X, 2, queries=X * 1e-200 + 1e200, method="torch"), "queries have values up to 1e+200, first in row 0, column 0, whose distances"),
    (lambda: fe.neighbors(X.astype(np.int64) + 2**53, 2), "X has whole numbers of 2^53 and more, first in row 0, column 0,"),
    (lambda: fe.margins(X * 1e-200, Y), "X has no value above 1.1e-199, and distances are out of float32's range: rescale X"),
    (lambda: fe.neighbors("a.npy", 2), "nothing at 'a.npy': check the path"),
    (lambda: fe.neighbors(X, 2, queries=np.arange(6) < 2), "queries are 6 booleans: row numbers are needed, pass np.flatnonzero(queries)"),
    (lambda: fe.neighbors(X, 6), "k=6: a whole number from 1 to 5 is needed"),
    (lambda: fe.neighbors(X, 0), "k=0: a whole number from 1 to 5 is needed"),
    (lambda: fe.neighbors(X, 2.5), "k=2.5: a whole number from 1 to 5 is needed"),
    (lambda: fe.neighbors(X[:1]), "X has one row, which has no neighbours: pass more rows"),
    (lambda: fe.neighbors(X, 2, metric="manhattan"), "metric='manhattan': choose one of 'euclidean', 'cosine'"),
    (lambda: fe.neighbors(X - X[0], 2, metric="cosine"), "metric='cosine': 1 row of zeros in X, first row 0, has no direction: leave them out, or use metric='euclidean'"),
    (lambda: fe.neighbors(X + 1, 2, queries=[[1.0, 2.0], [0.0, 0.0]], metric="cosine"), "metric='cosine': 1 row of zeros in queries, first row 1, has no direction"),
    (lambda: fe.margins(np.where(np.arange(6)[:, None] < 4, X + 1, 0), Y, metric="cosine"), "metric='cosine': 2 rows of zeros in X, first row 4, have no direction"),
    (lambda: fe.neighbors(X, 2, method="annoy"), "method='annoy': choose one of 'auto', 'exact', 'flat', 'ivf', 'hnsw', 'torch'"),
    (lambda: fe.neighbors(X, 2, method="torch", device="abacus"), "device='abacus': "),
    (lambda: fe.neighbors(X, 2, method="ivf", nlist=7), "nlist=7: a whole number from 1 to 6 is needed"),
    (lambda: fe.neighbors(X, 2, nprobe=8), "nprobe=8 is for method='ivf', not 'exact': leave it out or choose that method"),
    (lambda: fe.neighbors(X, 2, method="flat", device="cuda"), "device='cuda' is for method='torch', not 'flat': leave it out or choose that method"),
    (lambda: fe.neighbors(X, 2, method="hnsw", hnsw_m=1), "hnsw_m=1: a whole number of at least 2 is needed"),
    (lambda: fe.neighbors(X, 2, queries=7), "queries=7: a whole number from 1 to 6 is needed"),
    (lambda: fe.neighbors(X, 2, queries=[0, 6, -1]), "2 of the queries are not rows of X, first 6: its rows are 0..5"),
    (lambda: fe.neighbors(X, 2, queries=[]), "queries is empty, shape (0,): at least one row number is needed, or None for all rows"),
    (lambda: fe.neighbors(X, 2, queries=X[:0]), "queries is empty, shape (0, 2): at least one point is needed, or None for all rows"),
    (lambda: fe.neighbors(X, 2, queries=X[:, :0]), "queries is empty, shape (6, 0): at least one point and one feature are needed"),
    (lambda: fe.margins(X, Y, queries=[]), "queries is empty, shape (0,): at least one row number is needed, or None for all rows"),
    (lambda: fe.neighbors(X, 2, queries=[0.5, 1.0]), "queries have shape (2,) and dtype float64: a number, row numbers (q,) or points (q, d) are needed"),
    (lambda: fe.neighbors(X, 2, queries=np.ones((3, 5))), "queries have 5 features, X has 2: pass points of the same space"),
    (lambda: fe.neighbors(X, 2, queries=NAN), "queries has NaN or infinity in 2 of 6 rows, first at row 2, column 1 (nan): drop those rows or repair them"),
    (lambda: fe.neighbors(X, 2, memory_budget="lots"), "memory_budget='lots': a number of bytes, or text like '4GiB', is needed"),
    (lambda: fe.neighbors(X, 2, memory_budget=0), "memory_budget=0: a whole number of at least 1 is needed"),
    (lambda: fe.neighbors(np.zeros((30_000, 100)), 2, memory_budget="1MiB"), "the search of 30,000 queries among 30,000 x 100 points, in 30 cells, needs about"),
    (lambda: fe.margins(X, Y, memory_budget=100), "the search of 6 queries among 6 x 2 points, in 1 cell, needs about"),
    (lambda: fe.margins(X, [3] * 6), "labels holds one class only (3): at least 2 classes are needed to compare them"),
    (lambda: fe.margins(X, Y[:4]), "X has 6 rows but labels has 4: pass one label for each row"),
    (lambda: fe.margins(X, Y, queries=X), "queries of margins are rows of X, by number: points that are no rows have no label here"),
    (lambda: fe.mixing(fe.neighbors(X, 2), Y[:4]), "X has 6 rows but labels has 4: pass one label for each row"),
    (lambda: fe.lisi(fe.neighbors(X, 2), Y), "perplexity=30 needs k=90 neighbours, there are 2: search for more, or lower it"),
    (lambda: fe.lisi(fe.neighbors(X, 2), Y, perplexity=1), "perplexity=1: a number above 1 is needed"),
    (lambda: fe.intrinsic_dimension(fe.neighbors(X, 1)), "method='twonn' needs two neighbours or more, there is 1: search for more"),
    (lambda: fe.intrinsic_dimension(fe.neighbors(X, 3), "gride", k=3), "k=3: an even number is needed for method='gride'"),
    (lambda: fe.intrinsic_dimension(fe.neighbors(X, 3), "mle", k=4), "k=4: a whole number from 2 to 3 is needed"),
    (lambda: fe.intrinsic_dimension(fe.neighbors(X, 3), "pca"), "method='pca': choose one of 'twonn', 'twonn-ml', 'mle', 'gride'"),
    (lambda: fe.intrinsic_dimension(fe.neighbors(0 * X, 3)), "the lists of all 6 queries hold fewer than two rows that differ from the query and from each other: drop repeated rows, or search for more"),
    (lambda: fe.logit_margin(X[:, :1], Y), "logits have one column: a column for each of two classes or more is needed"),
    (lambda: fe.logit_margin(X, [0, 1, 2, 0, 0, 0]), "label 2 is no column of logits: 0..1 are"),
    (lambda: fe.logit_margin(X, list("abcdef")), "labels have shape (6,) and dtype <U1: class numbers 0..1, one for each row, are needed"),
    (lambda: fe.logit_margin(X, Y[:5]), "logits has 6 rows but labels has 5: pass one label for each row"),
    (lambda: fe.logit_margin(NAN, Y), "logits has NaN or infinity in 2 of 6 rows"),
    (lambda: fe.silhouette(X, Y, method="fuzzy"), "method='fuzzy': choose one of 'exact', 'simplified', 'squared'"),
    (lambda: fe.silhouette(X, [3] * 6), "labels holds one class only (3): at least 2 classes are needed to compare them"),
    (lambda: fe.silhouette(NAN, Y), "X has NaN or infinity in 2 of 6 rows, first at row 2, column 1 (nan): drop those rows or repair them"),
    (lambda: fe.silhouette(NAN, Y, method="squared"), "X has NaN or infinity in 2 of 6 rows, first at row 2, column 1 (nan)"),
    (lambda: fe.silhouette(X, Y, queries=X), "queries of silhouettes are rows of X, by number: points that are no rows have no label here"),
    (lambda: fe.silhouette(X, Y, memory_budget=1000), "the silhouettes of 6 queries among 6 x 2 points of 2 classes needs about"),
    (lambda: fe.soft_nearest_neighbor_loss(X, Y, 0), "temperature=0: a number above 0 is needed"),
    (lambda: fe.soft_nearest_neighbor_loss(X, Y, "warm"), "temperature='warm': choose one of 'median', 'optimal'"),
    (lambda: fe.soft_nearest_neighbor_loss(0 * X, Y), "temperature='median': more than half of the points are equal, choose a number"),
    (lambda: fe.soft_nearest_neighbor_loss(X, range(6), 1.0), "every query is alone in its class: the soft nearest neighbour loss needs two points of a class"),
    (lambda: fe.geometry(X, Y, weights=np.eye(2)), "weights act on the activations as they are: pass normalize=False"),
    (lambda: fe.geometry(X, Y, normalize=False, weights=np.eye(3)), "weights have shape (3, 3), bias (2,): (2, 2) and (2,) are needed, a row for each class in sorted order"),
    (lambda: fe.geometry(X, Y, normalize=False, bias=[1, 2]), "bias without weights: pass both, or none"),
    (lambda: fe.complexity(X, [3] * 6), "labels holds one class only (3): at least 2 classes are needed to compare them"),
    (lambda: fe.complexity(NAN, Y), "X has NaN or infinity in 2 of 6 rows"),
    (lambda: fe.complexity(X, Y, memory_budget=10), "the complexity of 6 x 2 points needs about"),
    (lambda: fe.participation_ratio(NAN), "X has NaN or infinity in 2 of 6 rows"),
    (lambda: fe.cka(X, X[:4]), "X has 6 rows and Y has 4: pass activations of the same points, in the same order"),
    (lambda: fe.cka(X, NAN), "Y has NaN or infinity in 2 of 6 rows"),
    (lambda: fe.cka(0 * X, X), "all rows of X are equal: there is nothing to align"),
    (lambda: fe.measure(X, Y, k=3, metrics="entropy"), "metrics='entropy': choose 'all' or some of 'mixing', 'lisi', 'margins'"),
    (lambda: fe.measure(X, Y, k=3, metrics=[]), "metrics=[]: choose 'all' or some of"),
    (lambda: fe.measure(X, Y, k=3, metrics=5), "metrics=5: choose 'all' or some of"),
    (lambda: fe.measure(X, Y, metrics="mixing"), "mixing takes 10 neighbours, and each of 6 rows has 5: pass more rows, or lower k"),
    (lambda: fe.measure(X, Y, k=1), "k=1: a whole number of at least 2 is needed"),
    (lambda: fe.measure(X, Y, temperature=-1), "temperature=-1: a number above 0 is needed"),
    (lambda: fe.measure(X, Y, temperature="mean"), "temperature='mean': choose one of 'median', 'optimal'"),
    (lambda: fe.measure(X, Y, seed=-1), "seed=-1: a whole number of at least 0 is needed"),
    (lambda: fe.neighbors(X, 2, seed=1.5), "seed=1.5: a whole number of at least 0 is needed"),
    (lambda: fe.compare(fe.geometry(X, Y)), "measurements is a ClassGeometry: pass those to be compared in a list"),
    (lambda: fe.intrinsic_dimension(X), "neighbors is ndarray: pass what fe.neighbors(X, k=10) returns"),
    (lambda: fe.mixing(X, Y), "neighbors is ndarray: pass what fe.neighbors(X, k=10) returns"),
    (lambda: fe.measure(X, Y, k=3, metrics="lisi"), "lisi takes 90 neighbours, and each of 6 rows has 5: pass more rows"),
    (lambda: fe.measure(X, Y, k=3, queries=[1, 1]), "queries name 2 rows, 1 of them different: name each once"),
    (lambda: fe.measure(X, Y, k=3, queries=X), "queries of measure are rows of X, by number: points that are no rows have no label here"),
    (lambda: fe.measure(NAN, Y, k=3), "X has NaN or infinity in 2 of 6 rows, first at row 2, column 1 (nan): drop those rows or repair them"),
    (lambda: fe.measure(X, Y[:3], k=3), "X has 6 rows but labels has 3: pass one label for each row"),
    (lambda: fe.measure(X, Y, k=3, temperature=-1, metrics="soft_nearest_neighbor"), "temperature=-1: a number above 0 is needed"),
    (lambda: fe.measure(X, Y, k=3, memory_budget="1KiB"), "measuring 6 x 2 points needs about"),
    (lambda: fe.compare([]), "measurements hold nothing: pass what fe.measure returned, in a list"),
    (lambda: fe.compare([X]), "measurements hold a ndarray: pass what fe.measure returned, in a list"),
    (lambda: fe.compare([fe.measure(X, Y, metrics="margins")] * 2, ["a", "a"]), "names=['a', 'a']: 2 different ones are needed, one for each measurement"),
    (lambda: fe.neighbors(X, 2).subset(3), "k=3: a whole number from 1 to 2 is needed"),
    (lambda: fe.load_run("nowhere"), "no run in 'nowhere': run.npz is missing; name a folder that fastent run wrote"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "message"), API, ids=[message[:40] for _, message in API])
def test_api(call, message):
    with pytest.raises(fe.FastentError) as caught:
        call()
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


ROWS = np.random.default_rng(0).standard_normal((40, 3)).astype(np.float32)
CLASSES = np.arange(40) % 3
NEAR = fe.neighbors(ROWS, 5)
MOMENTS = fe.ClassMoments(3, 3)
MOMENTS.update(ROWS, CLASSES)
HOSTILE = [
    None, 0, 10**30, -1, 1.5, np.nan, np.inf, 1j, True, "x", b"x", [], (), {}, {1}, object(), np.array(3), np.array([]),
    np.array([[]]), np.array([1j]), np.array(["a"]), np.array([None]), np.array([True, False]), np.array([2**63], np.uint64),
    np.array([2**64 - 1, 0], np.uint64), np.array([-1]), np.array([10**12]), np.array([0.5]), np.full(40, np.nan),
    np.full(40, 2**63, np.uint64), np.full(40, -5), np.full(40, 10**12), np.full(40, 1j), np.array([None] * 40),
    np.full((40, 3), np.inf), np.full((40, 3), 1j), np.full((40, 3), "a"), np.asfortranarray(ROWS), ROWS.astype(object),
    ROWS[::-1, ::-1], ROWS.astype(">f4"), ROWS.astype(np.longdouble), np.datetime64("2020"), np.zeros(40, [("a", int)]),
    torch.zeros(40, 3).to_sparse(), torch.zeros(0), torch.zeros(40, dtype=torch.complex64), torch.zeros(40, 3, requires_grad=True),
    np.ma.masked_array(np.arange(40), np.arange(40) > 3), range(40), np.uint64(2**64 - 1), [2**70] * 40, ["a", 1] * 20, [[1, 2], [3]],
]  # fmt: skip
TAKERS = {
    "neighbors": lambda bad: fe.neighbors(bad, 2),
    "k": lambda bad: fe.neighbors(ROWS, bad),
    "queries": lambda bad: fe.neighbors(ROWS, 2, queries=bad),
    "metric": lambda bad: fe.neighbors(ROWS, 2, metric=bad),
    "device": lambda bad: fe.neighbors(ROWS, 2, method="torch", device=bad),
    "progress": lambda bad: fe.neighbors(ROWS, 2, progress=bad),
    "memory_budget": lambda bad: fe.neighbors(ROWS, 2, memory_budget=bad),
    "indices": lambda bad: fe.mixing(fe.Neighbors(bad, NEAR.distances), CLASSES),
    "distances": lambda bad: fe.mixing(fe.Neighbors(NEAR.indices, bad), CLASSES),
    "queries of lists": lambda bad: fe.mixing(fe.Neighbors(NEAR.indices, NEAR.distances, bad, method="mine"), CLASSES),
    "n": lambda bad: fe.intrinsic_dimension(fe.Neighbors(NEAR.indices, NEAR.distances, None, bad)),
    "recall": lambda bad: repr(fe.Neighbors(NEAR.indices, NEAR.distances, recall=bad)),
    "resolution": lambda bad: fe.intrinsic_dimension(fe.Neighbors(NEAR.indices, NEAR.distances, resolution=bad)),
    "subset": NEAR.subset,
    "labels of mixing": lambda bad: fe.mixing(NEAR, bad),
    "matrix": lambda bad: fe.mixing(NEAR, CLASSES, matrix=bad),
    "neighbors of lisi": lambda bad: fe.lisi(bad, CLASSES, 1.2),
    "labels of lisi": lambda bad: fe.lisi(NEAR, bad, 1.2),
    "labels of dimension": lambda bad: fe.intrinsic_dimension(NEAR, "mle", bad),
    "queries of margins": lambda bad: fe.margins(ROWS, CLASSES, queries=bad),
    "queries of silhouettes": lambda bad: fe.silhouette(ROWS, CLASSES, queries=bad),
    "normalize": lambda bad: fe.geometry(ROWS, CLASSES, normalize=bad),
    "weights": lambda bad: fe.geometry(ROWS, CLASSES, normalize=False, weights=bad),
    "bias": lambda bad: fe.geometry(ROWS, CLASSES, normalize=False, weights=np.eye(3), bias=bad),
    "n_features": lambda bad: fe.ClassMoments(3, bad),
    "class numbers": lambda bad: fe.ClassMoments(3, 3).update(ROWS, bad),
    "merge": lambda bad: fe.ClassMoments(3, 3).merge(bad),
    "compute": lambda bad: MOMENTS.compute(bad),
    "state": lambda bad: fe.ClassMoments(3, 3).load_state_dict(bad),
    **{
        f"state of {part}": lambda bad, part=part: fe.ClassMoments(3, 3).load_state_dict(MOMENTS.state_dict() | {part: bad})
        for part in MOMENTS.state_dict()
    },
    "logits": lambda bad: fe.logit_margin(bad, CLASSES),
    "labels of logits": lambda bad: fe.logit_margin(ROWS, bad),
    "metrics": lambda bad: fe.measure(ROWS, CLASSES, k=2, metrics=bad),
    "epoch": lambda bad: fe.find_inversion(bad, np.linspace(1, 0, 40), np.linspace(1, 0, 40)),
    "train_error": lambda bad: fe.find_inversion(np.arange(40), np.linspace(1, 0, 40), bad),
    "measurements": fe.compare,
    "hidden": lambda bad: fe.train((ROWS, CLASSES), hidden=bad, epochs=1, seeds=1, classes="all"),
    "exclude": lambda bad: fe.train((ROWS, CLASSES), exclude=bad, epochs=1, seeds=1, classes="all"),
}


@pytest.mark.filterwarnings("ignore:labels")
@pytest.mark.parametrize("taker", TAKERS)
def test_whatever_is_passed_is_taken_or_refused_in_one_line(taker):
    for bad in HOSTILE:
        try:
            TAKERS[taker](bad)
        except fe.FastentError as error:
            said = str(error)
            assert "\n" not in said, (taker, bad)
            assert len(said) < 500, (taker, bad)


@pytest.mark.filterwarnings("default")
def test_odd_labels_are_one_line_on_the_command_line(tmp_path):
    np.savez(tmp_path / "odd.npz", x_train=np.random.default_rng(0).standard_normal((60, 3)), y_train=np.arange(60) % 3 - 1)
    found = fastent("run", "--data", "odd.npz", "--classes", "all", "--epochs", "3", "--seeds", "1", cwd=tmp_path)
    assert found.exit_code == 0
    said = [line for line in found.stderr.splitlines() if "label -1" in line]
    assert said
    assert all(line.startswith("fastent: warning: y_t") and "rows have the label -1" in line for line in said)
    assert "UserWarning" not in found.stderr
    np.save(tmp_path / "X.npy", np.ones((60, 3)) * np.arange(60)[:, None])
    np.save(tmp_path / "y.npy", np.array(["cat", "dog", "cat\r"])[np.arange(60) % 3])
    found = fastent("measure", "X.npy", "y.npy", "--metrics", "mixing", cwd=tmp_path)
    assert found.exit_code == 0
    assert "2 labels look alike" in " ".join((found.stdout + found.stderr).split())


def test_damaged_moments_are_not_loaded():
    for part, value, message in (
        ("counts", [1, -2, 3], "state_dict has a count of -2 for class 1: it is damaged, load another"),
        ("counts", [1, 2.5, 3], "state_dict has a count of 2.5 for class 1"),
        ("counts", [2**63, 2, 3], "state_dict has a count of 9.22337e+18 for class 0"),
        ("squares", [1, np.nan, 3], "state_dict has squares of dtype float64: finite numbers are needed"),
        ("sums", np.full((3, 3), 1j), "state_dict has sums of dtype complex128: finite numbers are needed"),
        ("scatter", np.eye(3), "state_dict is for other moments: scatter is of shape (3, 3), expected None"),
    ):
        with pytest.raises(fe.FastentError, match=re.escape(message)):
            fe.ClassMoments(3, 3).load_state_dict(MOMENTS.state_dict() | {part: value})


def test_a_row_that_is_named_twice_would_count_twice_in_a_mean():
    for call in (fe.margins, fe.soft_nearest_neighbor_loss, fe.measure):
        with pytest.raises(
            fe.FastentError, match="queries name 3 rows, 2 of them different: name each once, which row 4 is not"
        ):
            call(ROWS, CLASSES, queries=[4, 1, 4])
    values = fe.silhouette(ROWS, CLASSES, queries=[4, 1, 4])
    assert values[0] == values[2]


CLI = [
    (["run", "--data", "nonsense"], "'nonsense'"),
    (["run", "--data", "missing.npz"], "missing.npz"),
    (["run", "--data", "mnist", "--data-dir", "."], "mnist.npz"),
    (["run", "--data", "cut.npz"], "cut.npz"),
    (["run", "--data", "pickled.npz"], "pickled.npz"),
    (["run", "--data", "words.npz", "--classes", "parity"], "classes"),
    (["run", "--data", "holes.npz", "--classes", "all"], "NaN"),
    (["run", "--data", "X.npy"], "labels"),
    (
        ["run", "--hidden", "twenty"],
        "hidden='twenty': whole numbers separated by commas are needed, for instance 20 or 512,128",
    ),
    (
        ["run", "--hidden", "0"],
        "hidden=0: a whole number of at least 1 is needed",
    ),
    (["run", "--subset", "100000"], "100000"),
    (["run", "--classes", "some"], "'some'"),
    (["run", "--standardize", "maybe"], "'maybe'"),
    (["run", "--grayscale"], "grayscale"),
    (["run", "--activation", "gelu"], "activation='gelu': choose one of 'tanh', 'relu'"),
    (["run", "--lr", "nan"], "lr=nan: a number above 0 is needed"),
    (["run", "--exclude", "rows.txt"], "'rows.txt' is no .npy: save it with numpy.save"),
    (["run", "--epochs", "3", "--out", "a-file"], "cannot write to the folder 'a-file'"),
    (["run", "--epochs", "3", "--out", "damaged"], "'damaged/run.npz' is damaged or no .npz of plain arrays"),
    (["measure", "X.npy", "missing.npy"], "nothing at 'missing.npy': check the path"),
    (["measure", "missing.npz:X", "y.npy"], "nothing at 'missing.npz': check the path"),
    (["measure", "two.npz", "y.npy"], "'two.npz' holds 'A', 'B', and no name was given: name one, as two.npz:A"),
    (["measure", "good.npz:Z", "y.npy"], "'good.npz' holds 'x_train', 'y_train', and 'Z' is not among them"),
    (["measure", "cut.npz", "y.npy"], "'cut.npz' is damaged or no .npz of plain arrays"),
    (["measure", "pickled.npz:x_train", "y.npy"], "'pickled.npz:x_train' holds Python objects: save numbers"),
    (
        ["measure", "rows.txt", "y.npy"],
        "'rows.txt' cannot be opened: .npy, .parquet, .csv, .arrow, .safetensors, .zarr or a folder of such files is needed",
    ),
    (
        ["measure", "X.npy", "objects.npy"],
        "'objects.npy' holds Python objects: save numbers with numpy.save, or where every row has a label, y.astype(str)",
    ),
    (["measure", "X.npy", "y.npy", "--seed", "-1"], "seed=-1: a whole number of at least 0 is needed"),
    (["measure", "X.npy", "X.npy"], "labels has shape (40, 3)"),
    (["measure", "X.npy", "y.npy", "--metrics", "mixing,everything"], "choose 'all' or some of"),
    (["measure", "X.npy", "y.npy", "--queries", "50"], "queries=50: a whole number from 1 to 40 is needed"),
    (
        ["measure", "X.npy", "y.npy", "--memory", "plenty"],
        "memory_budget='plenty': a number of bytes, or text like '4GiB', is needed",
    ),
    (["measure", "X.npy", "y.npy", "--memory", "1MiB"], "measuring 40 x 3 points needs about"),
    (
        ["measure", "X.npy", "y.npy", "--metrics", "soft_nearest_neighbor", "--temperature", "hot"],
        "temperature='hot': choose one of 'median', 'optimal'",
    ),
    (["measure", "X.npy", "y.npy", "--threads", "0"], "threads=0: a whole number of at least 1 is needed"),
    (["measure", "X.npy", "y.npy", "--out", "a-file"], "cannot write to the folder 'a-file'"),
    (["report", "."], "no run in '.': run.npz is missing; name a folder that fastent run wrote"),
]
USAGE = [["run", "--nonsense"], ["run", "--seeds", "many"], ["walk"]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((40, 3)), rng.integers(0, 2, 40)
    np.savez(folder / "good.npz", x_train=x, y_train=y)
    np.savez(folder / "two.npz", A=x, B=x)
    (folder / "cut.npz").write_bytes((folder / "good.npz").read_bytes()[:300])
    np.savez(folder / "pickled.npz", x_train=x.astype(object), y_train=y)
    np.savez(folder / "words.npz", x_train=x, y_train=np.where(y, "cat", "dog"))
    np.savez(folder / "holes.npz", x_train=np.where(x > 2, np.nan, x), y_train=y)
    np.save(folder / "X.npy", x)
    np.save(folder / "y.npy", y)
    (folder / "rows.txt").write_text("1 2 3")
    np.save(folder / "objects.npy", np.array(["a", None], object), allow_pickle=True)
    (folder / "a-file").write_text("")
    (folder / "damaged").mkdir()
    (folder / "damaged" / "run.npz").write_bytes(b"PK\x03\x04 not a run")
    return folder


@pytest.mark.parametrize(("arguments", "message"), CLI, ids=[" ".join(arguments) for arguments, _ in CLI])
def test_cli(folder, arguments, message, monkeypatch):
    monkeypatch.chdir(folder)
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert re.fullmatch(r"fastent: error: [^\n]+\n", result.stderr), result.stderr
    assert message in result.stderr


@pytest.mark.spawn
@pytest.mark.parametrize("arguments", [CLI[0][0], *USAGE], ids=" ".join)
def test_no_traceback_from_the_command_itself(arguments):
    command = [sys.executable, "-m", "fastent.cli.main", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert result.stderr
    assert "Traceback" not in result.stderr


def test_another_run_is_not_overwritten(tmp_path):
    assert fastent("run", "--epochs", "3", "--seeds", "1", "--out", str(tmp_path)).exit_code == 0
    before = (tmp_path / "run.npz").read_bytes()
    refused = fastent("run", "--epochs", "3", "--seeds", "2", "--out", str(tmp_path))
    assert refused.exit_code == 2
    assert "the run to resume has seeds=1, not 2" in refused.stderr
    assert (tmp_path / "run.npz").read_bytes() == before
    assert fastent("run", "--epochs", "3", "--seeds", "2", "--out", str(tmp_path), "--overwrite").exit_code == 0
