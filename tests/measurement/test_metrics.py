"""The declarations of metrics: everything that lists metrics is made from them."""

from dataclasses import fields
from typing import get_args

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
