"""Neighbours that points keep from one measurement to another, in what `fe.compare` returns."""

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

import fastent as fe
from fastent.measurement.common_neighbors import common_neighbors
from fastent.measurement.point_values import PointValues
from fastent.report.compared_measurements import load_measurement, write_compared_measurements, write_comparison_report
from fastent.statistics.strata import stratified_rows
from tests.report.test_report import EVIL
from tests.statistics.test_silhouette import clusters

X, Y = clusters(0, 300, 5, 3)
NOISE = np.random.default_rng(1).standard_normal(X.shape)


def of(features, labels=Y, **options):
    return fe.measure(features, labels, **({"metrics": "mixing"} | options))


def test_they_are_those_of_the_neighbours_themselves():
    measured = [of(X), of(X[:, :3], k=5), of(NOISE)]
    found = fe.compare(measured, ["all", "some", "none"]).neighbor_overlap
    expected = fe.overlap_matrix({name: each.neighbors for name, each in zip(("all", "some", "none"), measured)})
    assert found.k == 5
    assert found.names == expected.names
    np.testing.assert_array_equal(found.overlap, expected.overlap)
    assert found.overlap[0, 2] == pytest.approx(found.chance["overlap"], abs=0.01)


def test_of_a_sample_they_have_errors():
    found = fe.compare([of(X, queries=100), of(NOISE, queries=100)])
    assert found.neighbor_overlap.standard_errors["overlap"][0, 1] > 0
    assert " ± " in found._repr_html_()


@pytest.mark.parametrize(
    "other",
    [
        of(X, queries=100), of(X, 1 - (Y == 0)), of(X[:-1], Y[:-1]), of(X, metrics="geometry"), of(X, queries=np.arange(300)[::-1]),
    ],
    ids=["queries", "labels", "points", "none", "order"],
)  # fmt: skip
def test_other_points_have_none(other):
    found = fe.compare([of(X), other])
    assert found.neighbor_overlap is None
    assert "eighbour overlap" not in repr(found) + found._repr_html_()


def test_one_measurement_has_none():
    assert fe.compare([of(X)]).neighbor_overlap is None


def test_classes_that_were_sampled_one_by_one_have_none():
    """Then a plain mean over the queries would not be one over the rows."""
    drawn = [replace(of(each, queries=100), of_queries=stratified_rows(Y, 3, 100, 0)[1]) for each in (X, NOISE)]
    assert fe.compare([of(each, queries=100) for each in (X, NOISE)]).neighbor_overlap is not None
    assert common_neighbors([PointValues.of(each) for each in drawn], ["a", "b"]) is None


@pytest.mark.parametrize("width", [40, 60, 120])
def test_they_are_shown_wherever_a_comparison_is(width, tmp_path):
    found = fe.compare([of(X), of(NOISE)], ["a\x1b[31m", EVIL])
    value = f"{found.neighbor_overlap.overlap[0, 1]:.4f}"
    assert "neighbour overlap, k=10" in repr(found)
    assert "\x1b" not in repr(found)
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(found)
    printed = console.export_text()
    assert "Neighbours in common" in " ".join(printed.split())
    assert value in printed
    assert max(map(len, printed.splitlines())) <= width
    assert "Neighbours in common" in found._repr_html_()
    fe.write_report(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "Neighbours in common" in page
    assert value in page
    assert EVIL not in page
    fe.write_report(fe.compare([of(X), of(X, queries=9)]), tmp_path / "page.html")
    assert "Neighbours in common" not in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_other_points_with_the_same_labels_are_told_by_their_neighbours():
    """Sorted, balanced labels look alike whatever they are of; classes that lie apart have neighbours in common by chance."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 100)
    one, other = (8 * np.eye(3)[labels] + rng.standard_normal((300, 3)) for _ in range(2))
    found = fe.compare([of(one, labels), of(other, labels), of(one + 0.1 * other, labels)], ["one", "other", "moved"])
    said = {sentence.split(":")[0]: sentence for sentence in found.about_differences}
    assert found.neighbor_overlap.overlap[0, 1] > 2 * found.neighbor_overlap.chance["overlap"]
    assert "no more neighbours in common than unrelated points with these labels" in said["other"]
    assert said["moved"].startswith("moved: paired, the same 300 points;")


def test_a_report_of_stored_measurements_has_them(tmp_path):
    for name, each in {"a": X, "b": X[:, :3]}.items():
        of(each).save(tmp_path / name)
    names = ["a", "b"]
    write_compared_measurements([load_measurement(tmp_path / name) for name in names], names, tmp_path / "page.html")
    assert "Neighbours in common" in (tmp_path / "page.html").read_text()


def test_a_difference_that_a_setting_may_explain_has_no_interval():
    found = fe.compare([of(X, metrics=["mixing", "margins"]), of(X[:, :3], metrics=["mixing", "margins"], k=5)])
    assert np.isnan(found.differences["1"]["mixing/overlap"].low)
    assert np.isfinite(found.differences["1"]["margins/relative"].low)
    assert "mixing/overlap" not in dict(found.difference_cells())


def test_a_report_without_intervals_says_why(tmp_path):
    found = fe.compare([of(X), of(X, standardize=True)])
    found_page = tmp_path / "page.html"
    write_comparison_report(found, found_page)
    assert "no intervals, since all statistics depend on what differs: standardize." in found_page.read_text()
