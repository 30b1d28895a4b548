"""--map: what the reports of runs and measurements show, and what is refused before any work."""

import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tests.command import fastent
from tests.report.test_layers import made_up_records
from tests.report.test_report import payload


@pytest.fixture
def here(tmp_path):
    X, y = load_digits(return_X_y=True)
    np.save(tmp_path / "X.npy", X[:200])
    np.save(tmp_path / "y.npy", y[:200])
    return tmp_path


def shown(page):
    return [len(layout["x"]) for layout in payload(page.read_text(encoding="utf-8")).get("map", {}).get("layouts", [])]


def test_a_measurement_has_a_map_if_all_is_measured_or_it_is_asked_for(here):
    some, none, pca = ("--metrics", "margins"), ("--map", "none"), ("--map", "pca")
    for given, layouts in (((), [200]), (none, []), (some, []), (some + pca, [200]), ((*some, "--map", "auto"), [])):
        done = fastent("measure", "X.npy", "y.npy", "--out", "out", "--overwrite", *given, cwd=here)
        assert done.exit_code == 0, done.stderr
        assert shown(here / "out" / "report.html") == layouts


def test_a_run_has_maps_of_its_hidden_layer_and_its_inputs(here):
    options = ("--data", "digits", "--epochs", "3", "--seeds", "1", "--out", "run")
    assert fastent("run", *options, cwd=here).exit_code == 0
    assert shown(here / "run" / "report.html") == [1347, 1347]
    assert fastent("report", "run", "--map", "none", cwd=here).exit_code == 0
    assert shown(here / "run" / "report.html") == []
    assert fastent("report", "run", cwd=here).exit_code == 0
    assert shown(here / "run" / "report.html") == [1347, 1347]


@pytest.mark.parametrize("command", [("run", "--data", "digits"), ("measure", "X.npy", "y.npy"), ("report", "run")])
def test_unknown_and_missing_methods_are_refused(here, command, monkeypatch):
    monkeypatch.setitem(sys.modules, "umap", None)
    for method, said in (("mds", "map='mds': choose one of 'pca', 'umap', 'tsne', 'none'"), ("umap", "pip install '.[map]'")):
        refused = fastent(*command, "--map", method, *(() if command[0] == "report" else ("--out", "out")), cwd=here)
        assert refused.exit_code == 2
        assert said in refused.stderr


def test_reports_without_a_map_take_no_option_for_it(here):
    for method in ("none", "pca"):
        refused = fastent("report", "a", "b", "--map", method, cwd=here)
        assert refused.exit_code == 2
        assert f"--map {method}: the report of several folders has no map; leave --map out" in refused.stderr


def test_a_probe_has_a_map_if_it_keeps_points(here):
    made_up_records().save(here / "probe")
    refused = fastent("report", "probe", "--map", "pca", cwd=here)
    assert refused.exit_code == 2
    assert "--map pca: 'probe' keeps no points; make the probe with 'map' among its metrics" in refused.stderr
    assert fastent("report", "probe", "--map", "none", cwd=here).exit_code == 0
