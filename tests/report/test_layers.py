import pathlib
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import fastent as fe
from fastent.activations.records import ProbeRecords
from fastent.activations.trajectory import Trajectory
from fastent.cli.main import app
from fastent.errors import FastentError
from fastent.report.layers import class_rows, headline
from fastent.report.probe import curves_of
from tests.report.test_report import EVIL, made_up_run, payload


def made_up_records(steps=60, layers=("1", EVIL), classes=(EVIL, "a"), turn_at=20, measured=True) -> ProbeRecords:
    """The radius of the first class falls and rises again, in every layer; that of the others falls."""
    rng = np.random.default_rng(0)
    step = np.arange(steps)
    t = step[:, None, None]
    first = np.arange(len(classes)) == 0
    radius = (
        0.6
        + 0.3 * np.exp(-t / turn_at)
        + np.minimum(0.004 * np.maximum(t - turn_at, 0), 0.2) * first
        + np.zeros((1, len(layers), 1))
    )
    of_layers = np.linspace(0.2, 0.9, steps)[:, None] + 0.01 * np.arange(len(layers))
    unknown = np.full_like(of_layers, np.nan)
    wrong = rng.random((steps, 40)) < np.linspace(0.9, 0.1, steps)[:, None]
    return ProbeRecords(
        config={"layers": list(layers), "metrics": ["geometry"], "normalize": True, "k": 10},
        layers=tuple(layers),
        classes=np.array(classes),
        codes=np.arange(40) % len(classes),
        step=step,
        error=wrong.mean(1),
        loss=2 * wrong.mean(1),
        radius=radius,
        distance=None,
        fisher=10 ** (3 * of_layers),
        mixing=of_layers if measured else unknown,
        mixing_error=1 - of_layers if measured else unknown,
        margin=unknown,
        n2=unknown,
        n3=unknown,
        nc1=unknown,
        dimension=unknown,
        wrong=np.packbits(wrong, axis=1),
        scalars={"train_loss": np.where(step % 2, np.nan, 1.0)},
    )


def made_up_trajectory(last=None, steps=30) -> Trajectory:
    """Checkpoints at steps 0, 1, 2, 4, ..., of the layers of `made_up_records`."""
    records = made_up_records(steps)
    step = np.concatenate([[0], 2 ** np.arange(steps - 1)])
    statistics = {"mixing/overlap": records.mixing, "geometry/nc1": 1 / records.fisher}
    unknown = {name: np.full_like(values, np.nan) for name, values in statistics.items()}
    return Trajectory(
        config={"captures": [EVIL]}, layers=records.layers, names=tuple(f"step{each}" for each in step), step=step,
        classes=records.classes, codes=records.codes, statistics=statistics, low=unknown, high=unknown,
        radius=records.radius, last=last,
    )  # fmt: skip


def page_of(records, folder):
    fe.write_report(records, folder / "probe.html", command="python train.py")
    return (folder / "probe.html").read_text(encoding="utf-8")


def test_the_page_holds_the_records(tmp_path):
    records = made_up_records()
    page = page_of(records, tmp_path)
    data = payload(page)
    assert [each["name"] for each in data["statistics"]] == ["overlap", "kNN error", "radius", "Fisher ratio"]
    np.testing.assert_allclose(data["statistics"][0]["values"], records.mixing.T, rtol=1e-4)
    np.testing.assert_allclose(np.array(data["radius"]).transpose(2, 0, 1), records.radius, rtol=1e-4)
    assert [each["name"] for each in data["lines"]] == ["error", "loss", "train_loss"]
    assert data["lines"][2]["values"][:2] == [1.0, None]
    turned = records.inversions()
    assert data["inversion"][1][0]["epoch"] == turned[1, 0].epoch
    assert data["inversion"][1][1] is None
    assert EVIL not in page.replace(page[page.index('id="data"') :], "")
    assert "python train.py" in page
    assert turned[1, 1].reason in page


def test_the_table_says_where_classes_turn_and_why_others_do_not():
    records = made_up_records()
    found = records.inversions()[0]
    (_, _, turned), (_, _, none) = class_rows(curves_of(records), 0)
    assert turned[0] == f"{found[0].epoch}"
    assert turned[5] == f"{100 * found[0].train_error:.2f}\u00a0%"
    assert none[0] == "\u2013"
    assert none[-1] == found[1].reason
    assert str(headline(curves_of(records))).startswith(f"1 of 2 classes turned in layer {EVIL}, at step {found[0].epoch}.")


def test_text_classes_are_listed_in_natural_order(tmp_path):
    records = made_up_records(classes=("class 10", "class 2"))
    data = payload(page_of(records, tmp_path))
    assert data["classes"] == ["class 2", "class 10"]
    np.testing.assert_allclose(np.array(data["radius"]).transpose(2, 0, 1), records.radius[..., ::-1], rtol=1e-4)
    assert data["inversion"][1][1]["epoch"] == records.inversions()[1, 0].epoch


def test_without_inversions_the_reason_is_said():
    said = str(headline(curves_of(made_up_records(steps=4))))
    assert said.startswith(f"No class has turned in layer {EVIL}. Reasons: too few records (4 of at least ")


def test_long_records_keep_their_turns_and_many_numbers_stay_below_eight_megabytes(tmp_path):
    records = made_up_records(steps=3000, layers=[f"block.{i}" for i in range(30)], classes=range(120), turn_at=777)
    page = page_of(records, tmp_path)
    data = payload(page)
    assert len(data["moment"]) < 60
    turn = records.inversions()[3, 0]
    assert data["moment"][data["inversion"][3][0]["at"]] == turn.epoch
    assert "20 more classes are not shown here" in page
    assert len(page) < 8e6


def test_one_record_has_a_page(tmp_path):
    assert payload(page_of(made_up_records(steps=1, layers=("",)), tmp_path))["layers"] == ["(the model)"]


def test_nothing_recorded_is_refused(tmp_path):
    with pytest.raises(FastentError, match="recorded nothing so far"):
        fe.write_report(made_up_records(steps=0), tmp_path / "probe.html")
    assert not list(tmp_path.iterdir())


def test_the_command_line_writes_it_again(tmp_path):
    made_up_records().save(tmp_path / "probe")
    done = CliRunner().invoke(app, ["report", str(tmp_path / "probe")])
    assert done.exit_code == 0, done.output
    page = pathlib.Path(done.output.strip())
    assert page == tmp_path / "probe" / "report.html"
    assert payload(page.read_text(encoding="utf-8"))["unit"] == "step"


def test_the_points_of_a_probe_are_mapped(tmp_path):
    rng = np.random.default_rng(0)
    rows = np.arange(0, 40, 2)
    records = replace(made_up_records(), queries=rows, points=rng.standard_normal((20, 3)).astype(np.float32))
    records.save(tmp_path / "probe")
    page = page_of(fe.load_probe(tmp_path / "probe"), tmp_path)
    data = payload(page)["map"]
    assert data["rows"] == rows.tolist()
    assert data["codes"] == records.codes[rows].tolist()
    wrong = records.misclassified(59)[rows]
    assert data["rings"] == np.flatnonzero(wrong).tolist()
    assert data["facts"][0]["of"] == records.stragglers()[rows].astype(int).tolist()
    assert "20 rows of the probe set in layer " in page
    no_errors = replace(records, error=np.full(60, np.nan))
    assert payload(page_of(no_errors, tmp_path))["map"]["rings"] == []
    few = replace(records, queries=rows[:2], points=records.points[:2])
    assert "map" not in payload(page_of(few, tmp_path))


def test_damaged_points_are_refused(tmp_path):
    rows = np.arange(0, 40, 2)
    points = np.zeros((20, 3), np.float32)
    for queries, of in ((rows, points[:19]), (rows + 2, points), (rows, points[0])):
        replace(made_up_records(), queries=queries, points=of).save(tmp_path / "probe")
        with pytest.raises(FastentError, match="save the probe again"):
            fe.load_probe(tmp_path / "probe")


def test_any_result_has_a_page(tmp_path):
    measured = fe.measure(np.random.default_rng(0).standard_normal((30, 3)), np.arange(30) % 2, metrics="geometry")
    for i, result in enumerate((made_up_run(), measured, made_up_records())):
        fe.write_report(result, tmp_path / f"{i}.html", command="again")
        assert "again" in (tmp_path / f"{i}.html").read_text(encoding="utf-8")
    for result, options in ((measured, {"points": 1}), (made_up_run(), {"name": 1}), (made_up_records(), {"name": 1})):
        with pytest.raises(FastentError, match=f"{next(iter(options))}=1: the options of the report of a .* are .*command"):
            fe.write_report(result, tmp_path / "none.html", **options)
    assert not (tmp_path / "none.html").exists()
    with pytest.raises(FastentError, match="result is a dict: pass a Run"):
        fe.write_report({}, tmp_path / "none.html")
