import io
import json
import re
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from sklearn.datasets import load_digits

import fastent as fe
import fastent.measurement.measure  # its module is patched below
from fastent.arrays.validation import unit_rows
from fastent.measurement.metrics import MEANINGS, METRICS
from fastent.runtime.formatting import readable, readable_interval
from fastent.runtime.threads import limit_threads
from fastent.search.exact_index import ExactIndex
from fastent.search.sweep import LabelledPoints, sweep
from fastent.search.top_k import TopK
from tests import naive
from tests.statistics.test_silhouette import clusters

DIMENSIONS = ("twonn", "twonn-ml", "mle", "gride")


def assert_parts(found, X, y, k=10):
    """Each part as its own function finds it."""
    near = fe.neighbors(X, k)
    np.testing.assert_array_equal(found.neighbors.indices, near.indices)
    np.testing.assert_array_equal(found.neighbors.distances, near.distances)
    mixing = fe.mixing(near, y)
    np.testing.assert_array_equal(found.mixing.purity, mixing.purity)
    np.testing.assert_array_equal(found.mixing.vote, mixing.vote)
    np.testing.assert_array_equal(found.mixing.matrix, mixing.matrix)
    np.testing.assert_allclose(found.lisi.per_point, fe.lisi(fe.neighbors(X, 90), y), rtol=1e-12)
    margins = fe.margins(X, y)
    for name in ("hit", "miss", "hit_index", "miss_index", "relative"):
        np.testing.assert_array_equal(getattr(found.margins, name), getattr(margins, name))
    geometry = fe.geometry(X, y, normalize=False)
    assert (found.geometry.fisher, found.geometry.nc1) == (geometry.fisher, geometry.nc1)
    assert found.participation_ratio == pytest.approx(fe.participation_ratio(X), rel=1e-9)
    np.testing.assert_allclose(found.silhouette.exact, fe.silhouette(X, y), atol=1e-6)
    for method in ("simplified", "squared"):
        np.testing.assert_array_equal(getattr(found.silhouette, method), fe.silhouette(X, y, method=method))
    soft = fe.soft_nearest_neighbor_loss(X, y)
    np.testing.assert_allclose(found.soft_nearest_neighbor.per_point, soft.per_point, rtol=1e-6)
    for method in DIMENSIONS:
        assert found.dimension[method].value == fe.intrinsic_dimension(near, method).value
    complexity = fe.complexity(X, y)
    for name in ("n1", "n2", "n3", "n4", "t1", "lsc", "f1"):
        assert getattr(found.complexity, name) == getattr(complexity, name), name


@pytest.mark.large
@pytest.mark.parametrize("n", [400, 6000])
def test_every_part_is_what_its_function_finds(n):
    X, y = clusters(0, n, 20, 5)
    assert_parts(fe.measure(X, y), X, y)


def test_digits():
    X, y = load_digits(return_X_y=True)
    found = fe.measure(X, y)
    assert_parts(found, X, y)
    summary = found.summary()
    assert list(summary) == [name for name in MEANINGS if name in summary]
    assert set(summary) == {name for name in MEANINGS if not METRICS[name.split("/")[0]].by_name_only}
    assert all(isinstance(value, float) for value in summary.values())
    assert summary["margins/n3"] == 21 / 1797
    assert found.notes == ()


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(3, 150),
    n_classes=st.integers(2, 60),
    lattice=st.booleans(),
    metrics=st.sampled_from(["all", "mixing", "complexity", ("silhouette", "lisi"), ("margins", "soft_nearest_neighbor")]),
    queries=st.sampled_from([None, 0.5]),
)
def test_awkward_points(seed, n, n_classes, lattice, metrics, queries):
    X, y = clusters(seed, n, 3, n_classes, lattice=lattice)
    X = X.astype(np.float16)
    queries = None if queries is None else max(1, n // 2)
    k = max(2, min(5, n - 1))
    refused = (
        ("lisi" in metrics and n <= 90)
        or (metrics != "all" and "soft_nearest_neighbor" in metrics)  # where no temperature can be found
    )
    try:
        found = fe.measure(X, y, k=k, metrics=metrics, queries=queries)
    except fe.FastentError:
        if refused:
            return
        raise
    assert found.as_json()
    json.dumps(found.as_json(), allow_nan=False)
    assert found.per_point().num_rows == len(found.queries)
    for name, estimate in found.intervals().items():
        if np.isfinite(estimate).all():
            assert estimate.low <= estimate.value + 1e-12, name
            assert estimate.value <= estimate.high + 1e-12, name
    if found.margins is not None:
        alone = np.bincount(np.unique(y, return_inverse=True)[1])[np.unique(y, return_inverse=True)[1]] == 1
        assert found.margins.alone == alone[found.queries].sum()


@pytest.mark.large
@pytest.mark.parametrize("queries", [700, "rows", None])
@pytest.mark.parametrize("normalize", [False, True])
def test_streamed_as_held(tmp_path, queries, normalize):
    X, y = clusters(1, 5000, 17, 4)
    X = X.astype(np.float16)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    queries = np.array([4999, 3, 1234, 777]) if queries == "rows" else queries
    held, found = (fe.measure(rows, y, queries=queries, normalize=normalize) for rows in (X, mapped))
    whole = fe.measure(unit_rows(X) if normalize else X, y)
    assert found.summary() == pytest.approx(held.summary(), nan_ok=True)
    rows = found.queries
    np.testing.assert_array_equal(found.margins.miss_index, whole.margins.miss_index[rows])
    np.testing.assert_array_equal(found.margins.hit, whole.margins.hit[rows])
    np.testing.assert_array_equal(found.neighbors.indices, whole.neighbors.indices[rows])
    np.testing.assert_array_equal(found.complexity.local_set, whole.complexity.local_set[rows])
    np.testing.assert_allclose(found.lisi.per_point, whole.lisi.per_point[rows], rtol=1e-9)
    np.testing.assert_allclose(found.silhouette.exact, whole.silhouette.exact[rows], atol=1e-6)
    np.testing.assert_allclose(found.soft_nearest_neighbor.per_point, whole.soft_nearest_neighbor.per_point[rows], rtol=1e-5)
    assert found.complexity.n4 == whole.complexity.n4
    assert np.isnan(found.complexity.n1) == (queries is not None)


@pytest.mark.large
def test_a_budget_that_holds_no_index(tmp_path):
    X, y = clusters(2, 100_000, 20, 4)
    X = X.astype(np.float32)
    whole = fe.measure(X, y, metrics=["mixing", "margins"])
    # Neighbours are found chunk by chunk, all of them; what needs all pairs is sampled.
    found = fe.measure(X, y, metrics=["mixing", "margins"], memory_budget="130MiB")
    assert found.summary() == whole.summary()
    np.testing.assert_array_equal(found.margins.miss_index, whole.margins.miss_index)
    sampled = fe.measure(X, y, metrics=["margins", "silhouette"], memory_budget="210MiB")
    in_proportion = "20,000 of 100,000 rows are sampled, each class in proportion and no fewer than 10: an index of all takes"
    assert sampled.notes[0].startswith(in_proportion)
    np.testing.assert_array_equal(sampled.margins.miss, whole.margins.miss[sampled.queries])
    with pytest.raises(fe.FastentError, match="use fewer queries, fewer metrics, or more memory"):
        fe.measure(X, y, memory_budget="5MiB")


def test_many_points_are_sampled_for_all_pairs(monkeypatch):
    module = sys.modules["fastent.measurement.plan"]
    monkeypatch.setattr(module, "_ALL_PAIRS", 2000)
    monkeypatch.setattr(module, "_SAMPLE", 500)
    X, y = clusters(3, 5000, 12, 4)
    found = fe.measure(X, y)
    monkeypatch.undo()
    whole = fe.measure(X, y)
    assert len(found.queries) == 5000
    assert len(found.sampled) == 500
    np.testing.assert_array_equal(found.mixing.purity, whole.mixing.purity)
    np.testing.assert_allclose(found.silhouette.exact, whole.silhouette.exact[found.sampled], atol=1e-6)
    np.testing.assert_array_equal(found.complexity.local_set, whole.complexity.local_set[found.sampled])
    assert found.complexity.n1 == whole.complexity.n1
    assert np.isnan(found.complexity.t1)
    assert "T1" in " ".join(found.notes)
    of_sample = "LISI, silhouettes, soft nearest neighbours and local sets"
    assert f"500 of 5,000 rows are sampled, each class in proportion and no fewer than 10, for {of_sample}" in found.notes
    np.testing.assert_array_equal(found.lisi.per_point, whole.lisi.per_point[found.sampled])
    assert found.per_point()["lisi"].null_count == 4500
    for name in ("lisi/mean", "silhouette/exact", "complexity/lsc", "soft_nearest_neighbor/loss"):
        low, high = found.intervals()[name][2:]
        assert low < whole.summary()[name] + 0.02
        assert high > whole.summary()[name] - 0.02
    table = found.per_point()
    assert table["silhouette"].null_count == 4500
    assert table["purity"].null_count == 0


@pytest.mark.parametrize(
    ("metrics", "memory"),
    [
        ("lisi", None),
        ("lisi", "13MiB"),
        (("lisi", "mixing"), None),
        (("lisi", "mixing"), "30MiB"),
        (("lisi", "margins"), "16MiB"),
        (("lisi", "silhouette"), None),
    ],
)
def test_long_lists_are_of_the_sample(monkeypatch, tmp_path, metrics, memory):
    """Nothing but LISI takes 90 neighbours; whatever else is asked for, and however the rows are searched, it is the same."""
    module = sys.modules["fastent.measurement.plan"]
    X, y = clusters(3, 20_000, 24, 4)
    whole = fe.measure(X, y, metrics=metrics)
    monkeypatch.setattr(module, "_ALL_PAIRS", 8000)
    monkeypatch.setattr(module, "_SAMPLE", 500)
    for _ in range(2):  # the second time from what the first one kept
        found = fe.measure(X, y, metrics=metrics, memory_budget=memory, checkpoint=tmp_path)
        assert len(found.sampled) == 500
        np.testing.assert_array_equal(found.lisi.per_point, whole.lisi.per_point[found.sampled])
        assert "500 of 20,000 rows are sampled, each class in proportion and no fewer than 10, for LISI" in found.notes[0]
        np.testing.assert_array_equal(found.queries, np.arange(20_000))
        if "mixing" in metrics:
            np.testing.assert_array_equal(found.mixing.purity, whole.mixing.purity)
            np.testing.assert_array_equal(found.neighbors.indices, whole.neighbors.indices)
        if "margins" in metrics:
            np.testing.assert_array_equal(found.margins.miss, whole.margins.miss)


class CountedRows(np.memmap):
    """Counts the rows that are read from it."""

    read = 0

    def __getitem__(self, rows):
        taken = super().__getitem__(rows)
        CountedRows.read += len(taken) if np.ndim(taken) == 2 else 0
        return np.asarray(taken)


@pytest.mark.parametrize(("metrics", "passes"), [("all", 7), ("geometry", 4), (["mixing", "margins"], 2), ("silhouette", 5)])
def test_no_pass_is_made_twice(tmp_path, metrics, passes):
    X, y = clusters(4, 20_000, 30, 4)
    X.astype(np.float32).tofile(tmp_path / "X")
    rows = CountedRows(tmp_path / "X", np.float32, "r", shape=X.shape)
    CountedRows.read = 0
    found = fe.measure(rows, y, queries=100, metrics=metrics)
    assert sum(stage.passes for stage in found.stages) == passes
    # Samples for temperature and for points in between come on top.
    assert passes <= CountedRows.read / len(X) < passes + 1.2
    names = [stage.name for stage in found.stages]
    assert len(names) == len(set(names))


@pytest.mark.large
def test_no_number_depends_on_threads_or_order():
    X, y = clusters(5, 4500, 10, 3)
    found = fe.measure(X, y)
    with limit_threads(1):
        again = fe.measure(X, y)
    assert again.summary() == pytest.approx(found.summary(), rel=1e-9)
    order = np.random.default_rng(0).permutation(len(X))
    shuffled, usual = fe.measure(X[order], y[order]).summary(), found.summary()
    for name in usual:
        if name not in ("complexity/n4", "soft_nearest_neighbor/temperature", "soft_nearest_neighbor/loss"):  # samples
            assert shuffled[name] == pytest.approx(usual[name], rel=1e-5, abs=1e-6), name
    rotation = np.linalg.qr(np.random.default_rng(0).standard_normal((10, 10)))[0]
    moved = fe.measure(X @ rotation + 7, y).summary()
    for name in usual:
        if name not in ("complexity/n4", "complexity/f1", "soft_nearest_neighbor/temperature"):  # f1 is of features
            assert moved[name] == pytest.approx(usual[name], rel=1e-5, abs=1e-6), name


def test_shuffled_and_collapsed_classes():
    X, y = clusters(6, 3000, 10, 4)
    shuffled = fe.measure(X, np.random.default_rng(0).permutation(y))
    assert shuffled.mixing.overlap == pytest.approx(shuffled.mixing.chance, abs=0.02)
    assert shuffled.silhouette.exact.mean() == pytest.approx(0, abs=0.02)
    assert shuffled.margins.n3 == pytest.approx(1 - shuffled.mixing.chance, abs=0.03)
    simplex = (np.eye(4) - 0.25)[np.repeat(np.arange(4), 100)]
    summary = fe.measure(simplex, np.repeat(list("abcd"), 100), temperature=0.1).summary()
    exact = {
        "mixing/overlap": 1, "mixing/error": 0, "lisi/mean": 1, "margins/relative": 1, "margins/n2": 0, "margins/n3": 0,
        "silhouette/exact": 1, "silhouette/squared": 1, "geometry/radius": 0, "geometry/nc1": 0, "geometry/cdnv": 0,
        "geometry/nc2_norm_spread": 0, "geometry/nc2_angle_deviation": 0, "geometry/participation_ratio": 3,
        "complexity/t1": 0.01, "complexity/f1": 0, "complexity/n4": 0,
    }  # fmt: skip
    for name, value in exact.items():
        assert summary[name] == pytest.approx(value, abs=1e-6), name
    assert "dimension/twonn" not in summary


def test_unit_rows_are_those_of_the_paper():
    X, y = load_digits(return_X_y=True)
    X[3] = 0
    found = fe.measure(X, y, normalize=True, metrics=["geometry", "margins"])
    paper = fe.geometry(X, y)
    np.testing.assert_array_equal(found.geometry.radius, paper.radius)
    as_given = fe.measure(X, y, metrics="geometry")
    assert not np.allclose(as_given.geometry.radius, paper.radius)
    for each, rows in ((found, "unit rows"), (found.geometry, "unit rows"), (paper, "unit rows"),
                       (as_given, "rows as given"), (as_given.geometry, "rows as given")):  # fmt: skip
        assert rows in repr(each)
    assert "unit rows" in shown(found)
    assert (found.geometry.normalize, as_given.geometry.normalize) == (True, False)
    np.testing.assert_allclose(found.margins.miss, fe.margins(naive.unit_rows(X).astype(np.float32), y).miss, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64", "uint8"])
@pytest.mark.parametrize("normalize", [False, True])
def test_standardised_features(tmp_path, dtype, normalize):
    X, y = clusters(11, 300, 6, 3)
    X = (np.abs(X) * [1, 10, 3, 7, 0, 20]).astype(dtype)  # the fifth never varies
    deviation = X.std(0, ddof=1, dtype=np.float64)
    by_hand = (X - X.mean(0, dtype=np.float64)) / np.where(deviation > 0, deviation, 1)
    expected = fe.measure(by_hand, y, normalize=normalize)
    np.save(tmp_path / "X.npy", X)
    for rows in (X, np.load(tmp_path / "X.npy", mmap_mode="r")):
        found = fe.measure(rows, y, standardize=True, normalize=normalize)
        for name, value in expected.summary().items():
            assert found.summary()[name] == pytest.approx(value, rel=2e-3, abs=2e-4, nan_ok=True), name
        assert found.standardize
        assert found.as_json()["standardize"]
        assert ("unit rows of standardised features" if normalize else "features standardised") in shown(found)
    assert "standardize: True; False" in " ".join(fe.compare([found, expected]).notes)


@pytest.mark.large
def test_standardised_on_disk_beyond_memory(tmp_path):
    X, y = clusters(13, 30_000, 20, 4)
    X = (X * 10.0 ** (np.arange(20) % 4)).astype(np.float32)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    options = {"standardize": True, "metrics": ["mixing", "margins"]}
    held = fe.measure(X, y, **options)
    for more in ({"memory_budget": "39MiB"}, {"queries": 500}):
        read = fe.measure(mapped, y, scratch=tmp_path, **options, **more)
        np.testing.assert_array_equal(read.neighbors.indices, held.neighbors.indices[read.queries])
        np.testing.assert_array_equal(read.margins.miss, held.margins.miss[read.queries])


def test_a_feature_with_all_of_the_variance_is_named():
    X, y = clusters(12, 300, 4, 3)
    X[:, 2] *= 1000

    def said(X, **options):
        return [note for note in fe.measure(X, y, metrics="geometry", **options).notes if "variance" in note]

    (note,) = said(X)
    assert re.match(r"feature 2 \(of 4\) has (99|100)\.\d % of the variance: distances say little of the others", note)
    table = pa.table(dict(zip(["age", "height", "income", "size"], X.T, strict=True)))
    (note,) = said(table)
    assert note.startswith("feature income has")
    assert said(X, standardize=True) == said(X[:, 2:3]) == said(X[:, :2]) == []
    wide = np.pad(X[:200], ((0, 0), (0, 300)))  # more features than points
    assert "feature 2 (of 304) has" in " ".join(fe.measure(wide, y[:200], metrics="geometry").notes)


@pytest.mark.parametrize("metrics", ["mixing", "margins"])
def test_it_is_named_without_geometry_too(metrics):
    X, y = clusters(12, 300, 2, 3)
    X[:, 0] *= 1000
    assert "feature 0 (of 2) has" in " ".join(fe.measure(X, y, metrics=metrics).notes)
    assert "variance" not in " ".join(fe.measure(X, y, metrics=metrics, standardize=True).notes)
    X[:, 1] = 5.0
    for options in ({}, {"standardize": True}):
        (note,) = [note for note in fe.measure(X, y, metrics=metrics, **options).notes if "variance" in note]
        assert note == "feature 0 (of 2) has 100.0 % of the variance: the others never vary"


def test_what_cannot_be_standardised_is_called_X():
    X, y = clusters(12, 300, 2, 3)
    X = X.astype(np.float64)
    X[:, 1] *= 1e200
    with pytest.raises(fe.FastentError, match="1 features of X vary by up to"):
        fe.measure(X, y, metrics="mixing", standardize=True)


def test_torch_and_strings_and_one_metric():
    X, y = clusters(7, 300, 6, 3)
    names = np.array(["cat", "dog", "emu"])[y]
    found = fe.measure(torch.tensor(X), names, metrics="margins")
    assert found.classes.tolist() == ["cat", "dog", "emu"]
    assert set(found.summary()) == {"margins/margin", "margins/relative", "margins/n2", "margins/n3"}
    assert found.mixing is None
    assert found.complexity is None
    assert found.per_point()["label"].to_pylist() == names.tolist()


def test_tables(tmp_path):
    X, y = clusters(8, 500, 6, 3)
    found = fe.measure(X, y, queries=100)
    table = found.per_point()
    assert table.num_rows == 100
    np.testing.assert_array_equal(table["row"], found.queries)
    np.testing.assert_array_equal(table["label"], y[found.queries])
    np.testing.assert_array_equal(table["relative"], found.margins.relative)
    found.to_parquet(tmp_path / "points.parquet")
    stored = pq.read_table(tmp_path / "points.parquet")
    assert stored.equals(table)
    assert json.loads(stored.schema.metadata[b"fastent"]) == found.as_json()
    text = shown(found)
    assert "500 points x 6 features, 3 classes, rows as given" in text
    assert f"{found.mixing.overlap:.4f}" in text
    assert "overlap" in repr(found)


def test_points_alone_in_their_class_have_no_hit_in_the_table():
    X, y = clusters(9, 200, 4, 2)
    y[5] = 7
    table = fe.measure(X, y).per_point()
    assert table["hit_index"].null_count == 1
    assert table["hit_index"][5].as_py() is None
    assert table["silhouette"][5].as_py() == 0


def test_compare():
    X, y = clusters(10, 500, 6, 3)
    whole, some = fe.measure(X, y), fe.measure(X, y, queries=200, metrics=["mixing", "margins"])
    compared = fe.compare([whole, some], names=["all", "some"])
    assert compared.names == ("all", "some")
    place = compared.statistics.index("mixing/overlap")
    assert compared.values[place].tolist() == [whole.mixing.overlap, some.mixing.overlap]
    assert compared.standard_errors[place, 0] == 0
    assert compared.standard_errors[place, 1] > 0
    assert np.isnan(compared.values[compared.statistics.index("silhouette/exact"), 1])
    assert compared.table().column_names == ["statistic", "all", "all standard error", "some", "some standard error"]
    assert "mixing/overlap" in repr(compared)
    assert "±" in shown(compared)


def shown(thing, width=120):
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(thing)
    return console.export_text()


def test_what_makes_statistics_less_than_they_seem_is_said():
    X, y = clusters(11, 300, 4, 3)
    dead = fe.measure(np.zeros_like(X), y)
    summary = dead.summary()
    for name in ("geometry/fisher", "geometry/nc1", "geometry/nc2_norm_spread", "margins/n2"):
        assert np.isnan(summary[name]), name
    assert "all rows are equal: there is nothing to tell classes apart" in dead.notes
    assert "All rows are equal" in shown(dead)
    assert (
        sum(note.startswith("no dimension by twonn, twonn-ml, mle, gride: the lists of all 300 queries") for note in dead.notes)
        == 1
    )
    y[0] = 9
    X[50:60] = X[50]
    found = fe.measure(X, y)
    alone = next(note for note in found.notes if note.startswith("class 9 has one point: "))
    for effect in (
        "margin, relative and n2 leave the point out",
        "the radius is 0",
        "the silhouette is 0",
        "n4",
        "loss leaves",
    ):
        assert effect in alone
    duplicates = max(each.duplicates for each in found.dimension.values())
    assert duplicates >= 10  # nine copies, and those who have little else near them
    assert (
        f"dimension leaves out {duplicates} of 300 points ({100 * duplicates / 300:.2g} %), which repeat another exactly or up to rounding, or whose neighbours do"
        in found.notes
    )


def test_few_rows_leave_out_what_takes_more():
    X, y = [[0.0], [1.0], [5.0]], [0, 0, 1]
    found = fe.measure(X, y)
    assert (found.mixing, found.lisi, found.dimension) == (None, None, None)
    assert "no mixing: it takes 10 neighbours, and each of 3 rows has 2" in found.notes
    assert found.margins.miss.tolist() == [5, 4, 4]
    assert fe.measure(X, y, k=2).mixing is not None


def test_any_scale_stays_readable():
    X, y = clusters(12, 300, 4, 3)
    large, small = fe.measure(X * 1e30, y), fe.measure(X * 1e-30, y)
    assert f"{large.margins.intervals['margin'].value:.3e}" in shown(large, 80)
    assert f"{small.margins.intervals['margin'].value:.3e}" in shown(small, 80)
    assert "0 = apart, 0.5 = tangled" in shown(large, 80)


def test_names_are_shown_as_they_are_and_differences_said():
    X, y = clusters(13, 300, 4, 3)
    pair = [fe.measure(X, y, metrics="mixing"), fe.measure(X, y, k=5, normalize=True, metrics="mixing")]
    compared = fe.compare(pair, names=["[/conv1]", "[bold]"])
    assert "[/conv1]" in shown(compared)
    assert "[bold]" in shown(compared)
    assert compared.notes == ("k: 10; 5", "normalize: False; True")
    assert "k: 10; 5" in shown(compared)
    assert "k: 10; 5" in repr(compared)


def test_a_budget_named_as_enough_is_enough():
    X, y = clusters(14, 2000, 32, 5)
    with pytest.raises(fe.FastentError) as refused:
        fe.measure(X, y, memory_budget="1MiB")
    enough = int(re.search(r"needs about (\d+) MiB", str(refused.value))[1]) + 1
    assert fe.measure(X, y, memory_budget=f"{enough}MiB").summary()["margins/n3"] == fe.measure(X, y).margins.n3


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 3000),
    d=st.sampled_from([1, 7, 40]),
    n_classes=st.integers(1, 30),
    lattice=st.booleans(),
    k=st.sampled_from([1, 4, 30, 90]),
    among=st.sampled_from(["all", "own class", "other classes"]),
    some=st.booleans(),
)
def test_lists_from_the_sweep_are_those_of_an_index(seed, n, d, n_classes, lattice, k, among, some):
    rng = np.random.default_rng(seed)
    X = (rng.integers(0, 3, (n, d)) if lattice else rng.standard_normal((n, d))).astype(np.float32)
    codes = rng.integers(0, n_classes, n)
    codes = np.unique(codes, return_inverse=True)[1]
    rows = rng.choice(n, max(1, n // 3), replace=False) if some or among != "all" else None
    index = ExactIndex(X, classes=codes)
    squared, found = index.nearest(k, rows, among=among)
    points = LabelledPoints(X, codes, 1.0, int(codes.max()) + 1)
    lists = TopK(len(squared), k, n, among=among)
    sweep(points, rows, [lists])
    its_squared, its_index = lists.lists()
    np.testing.assert_array_equal(its_index, found)
    np.testing.assert_array_equal(its_squared, squared)


@pytest.mark.parametrize("spread", [0.0, 1e-30, 1e-25, 1e-22, 1e-18, 1e-12])
def test_lists_from_the_sweep_where_single_precision_has_no_distances(spread):
    rng = np.random.default_rng(0)
    X = np.stack([np.repeat([1.0, 50.0], 300), spread * rng.standard_normal(600)], 1).astype(np.float32)
    codes = np.repeat([0, 1], 300)
    lists = TopK(600, 30, 600)
    sweep(LabelledPoints(X, codes, 1.0, 2), None, [lists])
    squared, found = lists.lists()
    exact = ((X[:, None].astype(np.float64) - X) ** 2).sum(-1)
    np.fill_diagonal(exact, np.inf)
    order = np.argsort(exact, 1, kind="stable")[:, :30]
    np.testing.assert_array_equal(found, order)
    np.testing.assert_allclose(squared, np.take_along_axis(exact, order, 1), rtol=1e-12)


def test_queries_keep_the_order_they_are_asked_in():
    X, y = clusters(0, 700, 6, 3)
    X[:, 0] += 20 * y  # the nearest k are all of the own class: misses are searched apart
    rows = np.random.default_rng(0).permutation(700)
    whole, margins = fe.measure(X, y), fe.margins(X, y)
    found = fe.measure(X, y, queries=rows, metrics=["mixing", "margins"])
    for name in ("hit", "miss", "hit_index", "miss_index", "margin"):
        np.testing.assert_array_equal(getattr(found.margins, name), getattr(margins, name)[rows], err_msg=name)
    some = np.array([50, 3, 400, 7, 599, 201])
    points = fe.measure(X, y, queries=some, metrics=["silhouette", "margins"]).per_point()
    np.testing.assert_array_equal(points["row"], some)
    np.testing.assert_allclose(points["silhouette"].to_numpy(), whole.silhouette.exact[some], atol=1e-6)


def unsaid(found):
    """Statistics that are not finite and that no note names."""
    said = " ".join(found.notes)
    return [
        name for name, value in found.summary().items() if not np.isfinite(value) and name.split("/")[1] not in said.lower()
    ]


@pytest.mark.parametrize("metrics", ["all", ["mixing"], ["geometry"], ["margins", "silhouette"]])
@pytest.mark.parametrize("queries", [None, 40])
def test_whatever_is_not_finite_has_a_note(metrics, queries):
    X, y = clusters(15, 240, 4, 3)
    lattice = np.stack(np.meshgrid(range(12), range(20)), -1).reshape(-1, 2).astype(float)
    lone, small = y.copy(), np.zeros(240, int)
    lone[[5, 9]], small[3:6] = (7, 8), 1
    kinds = {
        "usual": (X, y),
        "one point": (X, lone),
        "a small class": (X, small),
        "all equal": (np.zeros_like(X), y),
        "collapsed": (np.eye(3)[y], y),
        "means coincide": (np.tile([[-1.0, -1.0], [1.0, 1.0]], (120, 1)), np.repeat([0, 1], 120)),
        "a lattice": (lattice, np.arange(240) % 2),
        "each alone": (X, np.arange(240)),
    }
    for kind, (rows, labels) in kinds.items():
        found = fe.measure(rows, labels, metrics=metrics, queries=queries) if metrics == "all" else None
        if found is None:
            try:
                found = fe.measure(rows, labels, metrics=metrics, queries=queries)
            except fe.FastentError:
                continue
        assert not unsaid(found), (kind, found.notes)
        assert len(found.notes) == len(set(found.notes)), kind


def test_a_class_that_no_query_is_of_is_named():
    X, y = clusters(16, 1000, 4, 2)
    y[:12] = 2
    found = fe.measure(X, y, queries=np.arange(12, 400), metrics=["mixing", "margins"])
    assert np.isnan(found.summary()["mixing/balanced_overlap"])
    assert any(note.startswith("class 2 has no query: ") for note in found.notes)
    whole = fe.measure(X, y, metrics="mixing").summary()["mixing/balanced_overlap"]
    interval = found.intervals()["mixing/balanced_overlap"]
    assert interval.low < whole < interval.high
    kept = found.as_json()["statistics"]["mixing/balanced_overlap"]
    assert (kept["value"], kept["low"]) == (None, interval.low)
    by_class = found.as_json()["by_class"]
    assert (by_class["purity"][2], by_class["purity_low"][2], by_class["purity_high"][2]) == (None, 0, 1)
    np.testing.assert_allclose(by_class["chance"], found.mixing.class_chance)
    assert fe.measure(X, y, metrics="geometry").as_json()["by_class"] == {}
    assert "balanced_chance" in shown(found)
    compared = fe.compare([found, fe.measure(X, y, metrics="mixing")])
    assert any(note.startswith("0: class 2 has no query: ") for note in compared.missing)
    assert "class 2 has no query" in shown(compared)
    assert "class 2 has no query" in repr(compared)


@pytest.mark.parametrize("metrics", ["all", "mixing"])
def test_rows_of_zeros_are_counted_where_rows_are_scaled(metrics, tmp_path):
    X, y = clusters(17, 300, 5, 3)
    X[[4, 250, 299]] = 0
    note = "3 rows are all zeros (4, 250 and 299): they have no direction and cannot be scaled to unit length"
    np.save(tmp_path / "X.npy", X)
    for rows in (X, fe.open(tmp_path / "X.npy")):
        assert note in fe.measure(rows, y, normalize=True, metrics=metrics).notes
        assert not any("zeros" in each for each in fe.measure(rows, y, metrics=metrics).notes)


@pytest.mark.parametrize("width", [40, 45, 60, 80])
def test_numbers_are_never_cut_in_narrow_terminals(width):
    X, y = load_digits(return_X_y=True)
    found = fe.measure(X, y, metrics=["mixing", "geometry"], queries=200)
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(found)
    printed = console.export_text()
    assert "…" not in printed
    assert max(map(len, printed.splitlines())) <= width
    words = printed.split()
    for name, value in found.summary().items():
        assert readable(value) in words
        estimate = found.intervals().get(name)
        if readable_interval(estimate):
            assert readable_interval(estimate) in printed
