import json
import math
import re

import numpy as np
import pytest
from typer.testing import CliRunner

import fastent as fe
from fastent.cli.main import app
from fastent.errors import FastentError
from fastent.report.compared_runs import shared_stragglers
from fastent.report.comparison import distinct_names, load_all, write_comparison
from tests.report.test_report import EVIL, made_up_run, payload

fastent = CliRunner().invoke


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """Three measurements of ever less tangled classes; of the last only a sample of the rows was asked."""
    folder = tmp_path_factory.mktemp("measured")
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 3
    kept = []
    for away, queries in ((0.0, None), (2.0, None), (3.0, 40)):
        X = (rng.standard_normal((120, 4)) + away * labels[:, None]).astype(np.float32)
        kept.append(fe.measure(X, labels, k=5, metrics=["mixing", "margins", "geometry"], queries=queries))
        kept[-1].save(folder / f"layer{len(kept)}", asked={"X": EVIL})
    return folder, kept


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    kept = [made_up_run(seeds=3, turn_at=at, config={"lr": lr}) for at, lr in ((60, 0.1), (100, EVIL))]
    for name, run in zip(("slow", "fast"), kept, strict=True):
        run.save(folder / name)
    return folder, kept


def test_measurements_side_by_side(measured):
    folder, kept = measured
    names = ["layer1", "layer2", "layer3"]
    result = fastent(app, ["report", *(str(folder / name) for name in names), "--out", str(folder / "layers.html")])
    assert result.exit_code == 0, result.output
    page = (folder / "layers.html").read_text(encoding="utf-8")
    data = payload(page)
    assert data["names"] == names
    lines = {line["name"]: line for panel in data["panels"] for line in panel["lines"]}
    for name, statistic in (("overlap", "mixing/overlap"), ("n3", "margins/n3"), ("nc1", "geometry/nc1")):
        np.testing.assert_allclose(lines[name]["value"], [each.summary()[statistic] for each in kept], rtol=1e-5)
    interval = kept[2].intervals()["mixing/overlap"]
    assert lines["overlap"]["low"] == [None, None, float(f"{interval.low:.6g}")]
    first, last = (f"{100 * kept[i].mixing.overlap:.1f}\u00a0%" for i in (0, 2))
    assert f"<h1>{first} of a point\u2019s nearest neighbours share its label in layer1, {last} in layer3.</h1>" in page
    assert "Queries: 120; 120; 40." in page
    assert EVIL not in page
    assert page.count('class="spark"') == len(kept[0].summary())


def test_runs_side_by_side(runs, monkeypatch):
    folder, (slow, fast) = runs
    monkeypatch.chdir(folder)
    result = fastent(app, ["report", "slow", "fast"])
    assert result.exit_code == 0, result.output
    assert result.output.strip() == "comparison.html"
    page = (folder / "comparison.html").read_text(encoding="utf-8")
    data = payload(page)
    assert data["names"] == ["slow", "fast"]
    for drawn, run in zip(data["runs"], (slow, fast), strict=True):
        summary = run.inversion_summary()[1]
        np.testing.assert_allclose(drawn["turn"][1], [summary.train_error, *summary.interval])
        assert drawn["inversion"][1]["epoch"] == [each.epoch for each in run.inversion[:, 0, 1]]
    errors = [100 * np.mean([s.train_error for s in run.inversion_summary()]) for run in (slow, fast)]
    title = f"<h1>Classes turn at a training error of {errors[0]:.1f}\u00a0% in slow, at {errors[1]:.1f}\u00a0% in fast.</h1>"
    assert title in page
    assert re.search(r"<th scope=\"row\">lr</th><td class=\"wrap\">0.1</td>", page)
    assert EVIL not in page


def test_shared_stragglers_are_a_jaccard_index_among_common_points(runs):
    one, other = runs[1]
    a, b = (set(run.consensus_stragglers().tolist()) for run in (one, other))
    shared = shared_stragglers(one, other)
    assert (shared.both, shared.either) == (len(a & b), len(a | b))
    assert shared.jaccard == len(a & b) / len(a | b)
    expected = len(a) * len(b) / 200
    assert math.isclose(shared.chance, expected / (len(a) + len(b) - expected))
    never = made_up_run(turns=False)
    assert shared_stragglers(never, never).jaccard is None


def test_runs_of_other_data_share_no_rows(runs, tmp_path):
    made_up_run(seeds=2, config={"data": "others"}, classes=("x", "y")).save(tmp_path / "others")
    write_comparison([runs[0] / "slow", tmp_path / "others"], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "The runs are of different data" in page
    assert payload(page)["classes"] == ["0", "1", "x", "y"]
    assert payload(page)["runs"][0]["radius"][2] is None


def test_names_are_as_short_as_can_be(tmp_path):
    assert distinct_names([tmp_path / "a" / "x", tmp_path / "b" / "y"]) == ["x", "y"]
    assert distinct_names([tmp_path / "a" / "x", tmp_path / "b" / "x"]) == ["a/x", "b/x"]
    with pytest.raises(FastentError, match="is named twice"):
        distinct_names([tmp_path, tmp_path / "a" / ".."])


def test_what_cannot_be_compared_is_refused(measured, runs, tmp_path):
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "summary.json").write_text(json.dumps({"statistics": {"mixing/overlap": 3}}))
    (tmp_path / "empty").mkdir()
    layer, run = measured[0] / "layer1", runs[0] / "slow"
    for folders, complaint in (
        ((layer, run), "'slow' is a run and 'layer1' a measurement"),
        ((layer, tmp_path / "damaged"), "is damaged or no summary of fastent measure"),
        ((layer, tmp_path / "empty"), "no run and no measurement in"),
        ((layer, layer), "is named twice"),
        ((layer,), "1 folder to compare"),
    ):
        with pytest.raises(FastentError, match=complaint):
            write_comparison(folders, tmp_path / "page.html")
    result = fastent(app, ["report", str(layer)])
    assert result.exit_code == 2
    result = fastent(app, ["report", str(run), "--out", str(tmp_path / "none" / "page.html")])
    assert result.exit_code == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged", "empty"]


def test_what_is_loaded_is_what_was_measured(measured):
    folder, kept = measured
    for stored, each in zip(load_all([folder / "layer1", folder / "layer3"]), (kept[0], kept[2]), strict=True):
        assert {name: estimate.value for name, estimate in stored.statistics.items()} == pytest.approx(
            each.summary(), nan_ok=True
        )
        assert stored.how["queries"] == len(each.queries)
        assert stored.how["classes"] == ["0", "1", "2"]
