"""The declarations of metrics: everything that lists metrics is made from them."""

from dataclasses import fields
from typing import get_args

import numpy as np
import pytest

import fastent as fe
from fastent.measurement.metrics import METRICS, MetricName
from tests.statistics.test_silhouette import clusters


def test_every_metric_has_a_name_for_type_checkers_and_a_field():
    assert tuple(METRICS) == get_args(MetricName)
    assert set(METRICS) <= {field.name for field in fields(fe.Measurement)}


@pytest.mark.parametrize("name", METRICS)
def test_a_metric_alone_finds_what_it_declares(name):
    X, y = clusters(0, 300, 5, 3)
    found = fe.measure(X, y, metrics=name)
    wanted = {name, *METRICS[name].needs}
    assert {each for each in METRICS if getattr(found, each) is not None} == wanted
    assert set(found.summary()) == {f"{each}/{statistic}" for each in wanted for statistic in METRICS[each].statistics}
    columns = {column.name for each in wanted for column in METRICS[each].columns}
    assert set(found.per_point().column_names) == {"row", "label"} | columns


def test_capacity_is_measured_where_it_is_named_only():
    X, y = clusters(0, 300, 5, 3)
    assert fe.measure(X, y).capacity is None
    found = fe.measure(X, y, metrics=["all", "capacity"], seed=3)
    assert found.maps is not None  # as of "all"
    assert found.complexity is not None
    alone = fe.manifold_capacity(X, y, seed=3)
    assert found.capacity.capacity == alone.capacity
    assert found.intervals()["capacity/mean_field"] == alone.intervals["mean_field"]
    assert found.summary()["capacity/radius"] == alone.radius.mean()
    by_class = found.as_json()["by_class"]
    assert by_class["capacity"] == pytest.approx(alone.class_capacity)
    assert by_class["capacity_radius"] == pytest.approx(alone.radius)
    assert len(by_class["purity"]) == 3
    assert fe.measure(X, y, metrics="capacity").as_json()["by_class"].keys() == by_class.keys() - {
        "purity", "purity_low", "purity_high", "chance"
    }  # fmt: skip
    assert found.plot("capacity")[1].get_ylabel() == "capacity"
    with pytest.raises(fe.FastentError, match="'capacity' among the metrics"):
        fe.measure(X, y, metrics="mixing").plot("capacity")


def test_capacity_of_unit_rows_of_a_source_and_of_names(tmp_path):
    X, y = clusters(1, 300, 5, 3)
    np.save(tmp_path / "X.npy", X)
    unit = X / np.linalg.norm(X, axis=1, keepdims=True)
    found = fe.measure(fe.open(tmp_path / "X.npy"), y, metrics="capacity", normalize=True, class_names=["<b>", "é", "c"])
    assert found.capacity.capacity == pytest.approx(fe.manifold_capacity(unit, y).capacity, rel=1e-6)
    fe.write_report(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert "Manifold capacity" in page
    assert "Anchor radius" in page
    assert "&lt;b&gt;" in page
    assert "<td><b>" not in page


def test_what_capacity_does_not_allow_is_a_note_or_refused_by_name():
    X, y = np.ones((60, 3)), np.arange(60) % 2
    assert any(
        note.startswith("no capacity: all rows of X are equal") for note in fe.measure(X, y, metrics=["all", "capacity"]).notes
    )
    with pytest.raises(fe.FastentError, match="all rows of X are equal"):
        fe.measure(X, y, metrics="capacity")


def test_slow_capacity_is_said_beforehand(monkeypatch, capsys):
    X, y = clusters(0, 300, 5, 3)
    monkeypatch.setattr("fastent.measurement.plan._SLOW", 0)
    found = fe.measure(X, y, metrics="capacity", progress=True)
    assert found.notes[0].startswith("manifold capacity takes about")
    assert any(note.startswith("capacity is of up to 50 points of each class") for note in found.notes)
    assert capsys.readouterr().err.startswith("fastent: manifold capacity takes about")
