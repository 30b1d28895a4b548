"""Measurements that were stored have the differences that they have in memory."""

import math
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import fastent as fe
from fastent.cli.main import app
from fastent.errors import FastentError
from fastent.measurement import plan
from fastent.measurement.comparison import compared
from fastent.measurement.point_values import POINTS_FILE, load_point_values
from fastent.report.comparison import write_comparison

METRICS = ["mixing", "margins", "geometry", "silhouette", "lisi"]


@pytest.fixture(scope="module")
def points():
    """The same points in two layers, and others of the same kind."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 400)
    X = rng.standard_normal((400, 4)) + 1.5 * np.eye(4)[labels]
    return X, X + 0.5 * rng.standard_normal((400, 4)), labels


def measured(X, labels, **options):
    return fe.measure(X.astype(np.float32), labels, **{"metrics": METRICS, **options})


def assert_stored_alike(found, folder):
    """That differences of what was stored are those in memory, to the bit."""
    names = [str(i) for i in range(len(found))]
    for name, each in zip(names, found, strict=True):
        each.save(folder / name)
    stored = compared([load_point_values(folder / name) for name in names], names)
    whole = fe.compare(found)
    assert stored.statistics == whole.statistics
    assert stored.about_differences == whole.about_differences
    np.testing.assert_array_equal(stored.values, whole.values)
    np.testing.assert_array_equal(stored.standard_errors, whole.standard_errors)
    for name, numbers in whole.differences.items():
        np.testing.assert_array_equal(list(stored.differences[name].values()), list(numbers.values()))
    return whole


@pytest.mark.parametrize("queries", [None, 150, np.random.default_rng(1).permutation(400)])
@pytest.mark.parametrize("names", [[0, 1, 2], ["a", "é", "<b>"], [True, False, False], [-7, 0, 2**40]])
def test_differences_are_those_in_memory(points, queries, names, tmp_path):
    one, other, codes = points
    labels = np.array(names)[codes]
    found = assert_stored_alike([measured(X, labels, queries=queries) for X in (one, other)], tmp_path)
    shown = [name for name, each in found.differences["1"].items() if math.isfinite(each.low)]
    assert "mixing/overlap" in shown


def test_of_other_points_and_of_other_queries_too(points, tmp_path):
    one, other, labels = points
    sets = [(one, labels, None), (other, labels, 150), (one[:300], labels[:300], None), (other[100:], labels[100:], 120)]
    found = assert_stored_alike([measured(X, y, queries=queries, seed=i) for i, (X, y, queries) in enumerate(sets)], tmp_path)
    assert all(math.isfinite(each["mixing/overlap"].low) for each in found.differences.values())


def test_of_samples_drawn_by_class(points, tmp_path, monkeypatch):
    monkeypatch.setattr(plan, "_ALL_PAIRS", 200)
    monkeypatch.setattr(plan, "_SAMPLE", 100)
    one, other, labels = points
    skewed = np.where((labels == 2) & (np.arange(400) % 8 > 0), 1, labels)
    found = assert_stored_alike([measured(X, skewed) for X in (one, other)], tmp_path)
    assert math.isfinite(found.differences["1"]["silhouette/exact"].low)


@pytest.mark.parametrize("metrics", ["geometry", "margins", "mixing", "dimension", ["mixing", "margins"]])
def test_parts_that_were_not_measured_are_absent(points, metrics, tmp_path):
    one, other, labels = points
    assert_stored_alike([measured(X, labels, metrics=metrics) for X in (one, other)], tmp_path)


def test_few_points_and_single_ones(tmp_path):
    X = np.arange(16.0).reshape(8, 2)
    assert_stored_alike(
        [fe.measure(rows, [0] * 7 + [1], k=3, metrics=["mixing", "margins"]) for rows in (X, X[:, :1])], tmp_path
    )


def test_the_page_of_stored_measurements_has_them(points, tmp_path):
    one, other, labels = points
    for name, X in (("one", one), ("other", other)):
        measured(X, labels).save(tmp_path / name)
    done = CliRunner().invoke(
        app, ["report", str(tmp_path / "one"), str(tmp_path / "other"), "--out", str(tmp_path / "p.html")]
    )
    assert done.exit_code == 0, done.output
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "Differences from one" in page
    assert "other: paired, the same 400 points; intervals are for other points of the same kind." in page
    (tmp_path / "one" / POINTS_FILE).unlink()
    write_comparison([tmp_path / "one", tmp_path / "other"], tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert "Differences from one" not in page
    assert "not known for one, which keeps no differences.npz: measure it again." in page


def test_no_interval_is_explained(points, tmp_path):
    one, other, labels = points
    for name, X in (("one", one), ("other", other)):
        measured(X, labels, metrics="dimension").save(tmp_path / name)
    write_comparison([tmp_path / "one", tmp_path / "other"], tmp_path / "p.html")
    assert "No interval of a difference is known: " in (tmp_path / "p.html").read_text(encoding="utf-8")


def test_damaged_and_foreign_files_are_refused(points, tmp_path):
    one, other, labels = points
    found = [measured(X, labels, metrics="mixing") for X in (one, other)]
    for name, each in zip(("one", "other"), found, strict=True):
        each.save(tmp_path / name)
    path = tmp_path / "one" / POINTS_FILE
    kept = path.read_bytes()
    path.write_bytes((tmp_path / "other" / POINTS_FILE).read_bytes())
    with pytest.raises(FastentError, match=r"differences.npz' is of another measurement than summary.json: measure it again"):
        write_comparison([tmp_path / "one", tmp_path / "other"], tmp_path / "p.html")
    for damaged in (kept[:-200], kept[:100] + b"?" + kept[101:], b""):
        path.write_bytes(damaged)
        with pytest.raises(FastentError, match="measure it again"):
            write_comparison([tmp_path / "one", tmp_path / "other"], tmp_path / "p.html")
    assert not (tmp_path / "p.html").exists()


def test_what_is_not_finite_is_kept(points, tmp_path):
    _, _, labels = points
    collapsed = np.eye(4)[labels]
    found = [measured(X, labels, metrics=["geometry", "margins"]) for X in (collapsed, np.zeros((400, 4)))]
    assert not all(map(math.isfinite, found[1].summary().values()))
    assert_stored_alike(found, tmp_path)
    write_comparison([tmp_path / "0", tmp_path / "1"], tmp_path / "p.html")


def test_labels_of_objects_are_stored_as_text(points, tmp_path):
    one, _, labels = points
    found = measured(one, np.array(["a", "b", "c"])[labels], metrics="mixing")
    replace(found, classes=found.classes.astype(object)).save(tmp_path)
    assert load_point_values(tmp_path).classes.tolist() == ["a", "b", "c"]
