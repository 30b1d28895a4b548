"""Whether eps* is steadier than the training error at a fixed epoch: null, power, verdicts, and the fixed epoch itself."""

import io
import json

import numpy as np
import pytest
from rich.console import Console

import fastent as fe
import fastent.experiments as ex
from fastent.experiments.critical import compared_classes, critical_errors
from fastent.experiments.result import ANSWERS
from fastent.experiments.steadiness import QUESTION, Turns, errors_at_fixed_epoch, steadiness, turns_of
from fastent.report.experiments import write_experiments_report
from tests.experiments.test_claims import ONE

POINTS = 8192


@pytest.fixture(scope="module")
def recorded():
    return fe.train("digits", seeds=20, epochs=400, **ONE)


def pairs(rng, n, ratio, correlation=0.6, spread=0.03):
    """eps* and the errors at a fixed epoch of n networks, the first with `ratio` times the relative spread."""
    x, y = rng.multivariate_normal([0, 0], [[1, correlation], [correlation, 1]], n).T
    return 0.08 * np.exp(spread * ratio * x), 0.07 * np.exp(spread * y)


@pytest.mark.train
def test_exchanged_times_are_seldom_steadier(recorded):
    """Recorded errors, their deviations at the inversion and at the fixed epoch exchanged at random, network by network."""
    rng = np.random.default_rng(0)
    critical, (epochs, fixed) = (
        critical_errors(recorded),
        errors_at_fixed_epoch(turns_of(recorded, 0), compared_classes([recorded], 0)),
    )
    assert np.isfinite(critical).all()
    deviations = np.stack([critical / critical.mean(), fixed / fixed.mean()])
    holds = []
    for _ in range(300):
        exchanged = np.where(rng.random(len(critical)) < 0.5, deviations, deviations[::-1])
        holds.append(steadiness(0.07 * exchanged[0], 0.07 * exchanged[1], epochs, len(recorded.index)).holds)
    assert holds.count("yes") <= 0.05 * 300


@pytest.mark.parametrize(("ratio", "n", "holds"), [(0.4, 20, "yes"), (1.2, 30, "no"), (1.0, 5, "undecided"), (2.0, 20, "no")])
def test_each_verdict_can_be_reached(ratio, n, holds):
    rng = np.random.default_rng(1)
    found = [steadiness(*pairs(rng, n, ratio), [50.0], POINTS).holds for _ in range(200)]
    assert found.count(holds) >= 0.8 * 200


def test_equal_spreads_are_seldom_steadier():
    rng = np.random.default_rng(2)
    for n in (5, 20, 60):
        found = [steadiness(*pairs(rng, n, 1.0), [50.0], POINTS).holds for _ in range(300)]
        assert found.count("yes") <= 0.05 * 300


def test_the_error_at_the_fixed_epoch():
    records = np.arange(101.0)
    falling = np.array([0.5, 0.4, 0.6])[:, None] - 0.05 * np.log(np.maximum(records, 0.5))
    epoch = np.array([[20.0, 40.0], [30.0, 50.0], [40.0, np.nan]])
    interval = np.stack([epoch - 3, epoch + 3], axis=2)
    both = np.ones(2, bool)
    epochs, errors = errors_at_fixed_epoch(Turns(epoch, interval, records, records, falling), both)
    assert epochs == [30, 45]
    expected = np.mean([falling[:, 30], falling[:, 45]], axis=0)
    np.testing.assert_allclose(errors, expected, rtol=1e-3)
    # One loud record counts no more than the others about it.
    loud = falling.copy()
    loud[0, 30] += 0.1
    assert abs(errors_at_fixed_epoch(Turns(epoch, interval, records, records, loud), both)[1][0] - expected[0]) < 0.01
    nothing = Turns(np.full((3, 2), np.nan), np.full((3, 2, 2), np.nan), records, records, falling)
    assert np.isnan(errors_at_fixed_epoch(nothing, both)[1]).all()
    assert np.isnan(errors_at_fixed_epoch(nothing, ~both)[1]).all()
    assert errors_at_fixed_epoch(nothing._replace(epoch=epoch, interval=interval), np.array([True, False]))[0] == [30]


@pytest.mark.train
def test_it_is_a_further_question_of_dynamics(tmp_path, recorded):
    found = ex.dynamics("digits", seeds=4, epochs=400, **ONE)
    verdict = found.further[QUESTION]
    of = found.steadiness[-1]
    assert verdict.holds == of.holds
    assert f"a ratio of {of.ratio.value:.2f}" in verdict.sentence
    assert of.number == 4
    assert of.epoch[1] == np.median([i.epoch for i in found.run.inversion[:, 0, 1]])
    found.save(tmp_path)
    stored = json.loads((tmp_path / "dynamics.json").read_text())
    assert stored["answers"][QUESTION] == {"holds": verdict.holds, "sentence": verdict.sentence}
    assert stored["numbers"]["layer 1"]["steadiness"]["number"] == 4
    write_experiments_report([found], tmp_path / "report.html")
    assert QUESTION in (tmp_path / "report.html").read_text()
    assert QUESTION in found._repr_html_()
    console = Console(file=io.StringIO(), width=1000)
    console.print(found)
    assert f"{QUESTION} {ANSWERS[verdict.holds]}. {verdict.sentence}" in console.file.getvalue()
    few = ex.dynamics("digits", seeds=2, epochs=20, **ONE)
    assert few.further[QUESTION].holds == "undecided"
    assert few.further[QUESTION].sentence == "Too few seeds have an inversion to compare spreads."
