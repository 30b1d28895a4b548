"""Every result that has a table is a data frame, a Parquet file and an Arrow stream, by one way."""

import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

import fastent as fe
from fastent.experiments.result import Result, Table, Verdict

NAMES = np.array(["été", "half \udc80", "b\x1b"])


def assert_same(found, expected):
    assert found.schema.equals(expected.schema)
    assert str(found.to_pydict()) == str(expected.to_pydict())  # NaN equals NaN


class Found(Result):
    name, title, claim = "found", "Found", "There is something."

    @property
    def verdict(self):
        return Verdict("yes", "There is.")

    def table(self):
        return Table(("class", "errors"), [("été", "1.2 %"), ("b", "")], "note")

    def numbers(self):
        return {}

    def draw(self, axes):
        pass


@pytest.fixture(scope="module")
def results():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((60, 4)), NAMES[np.arange(60) % 3]
    alone = np.where(np.arange(60) == 5, "alone", y)
    near = fe.neighbors(X, 5)
    measured = fe.measure(X, y, k=3, queries=30, metrics=["mixing", "margins", "geometry"])
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 3))
    loader = [(torch.tensor(X, dtype=torch.float32), torch.arange(60) % 3)]
    probe = fe.Probe(model, loader, ["0", "1"])
    probe(0), probe(1)
    return {
        "neighbors": (near, (), 300),
        "neighbors of points": (fe.neighbors(X, 2, queries=X[:7] + 1), (), 14),
        "mixing": (fe.mixing(near, y), ("queries",), 60),
        "rows of mixing": (fe.mixing(near, y), ("rows",), 60),
        "classes of mixing": (fe.mixing(near, y), ("classes",), 9),
        "margins": (fe.margins(X, alone), (), 60),
        "geometry": (fe.geometry(X, y), ("classes",), 3),
        "pairs": (fe.geometry(X, y), ("pairs",), 3),
        "measurement": (measured, ("points",), 30),
        "statistics": (measured, ("statistics",), len(measured.summary())),
        "comparison": (fe.compare([measured, measured], ["a", "b"]), (), len(measured.summary())),
        "layer margins": (fe.layer_margins(model, loader), (), 120),
        "probe": (probe.records, (), 2 * 2 * 3),
        "experiment": (Found({}), (), 2),
    }


CASES = (
    "neighbors", "neighbors of points", "mixing", "rows of mixing", "classes of mixing", "margins", "geometry", "pairs",
    "measurement", "statistics", "comparison", "layer margins", "probe", "experiment",
)  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_every_table_is_a_file_and_a_stream(case, results, tmp_path):
    result, kind, rows = results[case]
    result.to_parquet(tmp_path / "t.parquet", *kind)
    stored = pq.read_table(tmp_path / "t.parquet")
    assert stored.num_rows == rows
    assert len(set(stored.column_names)) == stored.num_columns
    if case != "experiment":
        assert_same(stored, result.table(*kind))
    assert_same(pa.table(result), result._arrow())


@pytest.mark.parametrize("case", CASES)
def test_every_table_is_a_data_frame(case, results):
    pytest.importorskip("pandas")
    result, kind, rows = results[case]
    frame = result.to_pandas(*kind)
    assert len(frame) == rows
    table = result._arrow(*kind)
    assert frame.columns.tolist() == table.column_names
    for name in frame.columns:
        for one, other in zip(frame[name].tolist(), table[name].to_pylist()):
            assert one == other or (one != one and (other is None or other != other))


def test_what_the_tables_hold(results):
    edges = results["neighbors"][0].table().to_pydict()
    near = results["neighbors"][0]
    assert edges["query"][:6] == [0, 0, 0, 0, 0, 1]
    assert edges["rank"][:6] == [1, 2, 3, 4, 5, 1]
    assert edges["neighbor"] == near.indices.ravel().tolist()
    assert edges["distance"] == near.distances.ravel().tolist()
    margins = results["margins"][0].table()
    assert [margins[name].null_count for name in ("hit", "miss", "hit_index", "relative")] == [1, 0, 1, 1]
    assert margins["hit"][5].as_py() is None
    mixed = results["mixing"][0]
    shares = mixed.table("classes").to_pydict()
    np.testing.assert_array_equal(np.reshape(shares["share"], (3, 3)), mixed.matrix)
    assert shares["class"][1] == shares["neighbor_class"][3]
    pairs = results["pairs"][0].table("pairs").to_pydict()
    assert pairs["distance"][0] == results["pairs"][0].distance[0, 1]
    measured = results["measurement"][0]
    statistics = measured.table("statistics").to_pydict()
    assert statistics["statistic"] == list(measured.summary())
    assert statistics["value"] == [None if value != value else value for value in measured.summary().values()]
    at = statistics["statistic"].index("mixing/overlap")
    assert statistics["low"][at] == measured.intervals()["mixing/overlap"].low
    assert statistics["low"][statistics["statistic"].index("geometry/fisher")] is None
    assert b"fastent" in measured.table().schema.metadata


@pytest.mark.train
def test_tables_of_a_run(tmp_path):
    run = fe.train("digits", seeds=2, epochs=300)
    assert run.table().num_rows == run.radius.size
    found = run.table("inversions")
    assert found.num_rows == run.inversion.size
    for row, inversion in zip(found.to_pylist(), run.inversion.flat):
        assert (row["found"], row["reason"], row["epoch"]) == (inversion.found, inversion.reason, inversion.epoch)
        assert (row["epoch_low"], row["epoch_high"]) == (inversion.epoch_interval or (None, None))
    assert run.table("inversions")["class"].to_pylist()[:2] == ["even", "odd"]
    assert run.table("stragglers").num_rows == (run.straggler_share > 0).sum()
    run.to_parquet(tmp_path / "s.parquet", "stragglers")
    assert pq.read_table(tmp_path / "s.parquet").equals(run.table("stragglers"))
    with pytest.raises(fe.FastentError, match="kind='points': choose one of 'curves', 'inversions', 'stragglers'"):
        run.table("points")


@pytest.mark.parametrize("case", ["mixing", "geometry", "measurement"])
def test_unknown_tables_are_refused(case, results):
    with pytest.raises(fe.FastentError, match="kind='edges': choose one of"):
        results[case][0].table("edges")


def test_without_a_matrix_there_is_no_table_of_classes(results):
    with pytest.raises(fe.FastentError, match="matrix=True"):
        fe.mixing(results["neighbors"][0], np.arange(60) % 3, matrix=False).table("classes")


def test_without_pandas_an_error_says_how_to_get_it(results, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(fe.FastentError, match=r"pandas is not installed: pip install '\.\[pandas\]'"):
        results["neighbors"][0].to_pandas()
