"""What all experiments have in common, and the two that the others build on."""

import io
import json
import math
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
from markupsafe import escape
from matplotlib.figure import Figure

import fastent as fe
from fastent.experiments._dynamics import dynamics
from fastent.experiments._stability import Stability, _agreement, _z_null, _z_observed, cohens_kappa, stability
from fastent.experiments.critical import compared_classes, compared_text, critical_errors
from fastent.experiments.peak import find_peak
from fastent.experiments.setting import Setting
from fastent.io.result_cache import ResultCache, cache_key
from fastent.plots.style import error_axis
from fastent.report.experiments import _config, write_experiments_report
from fastent.runtime.formatting import estimate_text
from fastent.statistics.intervals import Estimate, student_mean
from fastent.statistics.inversion import Inversion
from fastent.statistics.simultaneous import jackknife
from tests.command import fastent

OF_STABILITY = {"pairs": 25, "times": (10, 40, 60, 90, 150), "seeds": 2, "threads": 1}


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


@pytest.fixture(scope="module")
def agreement(kept):
    return stability("digits", out=kept, **OF_STABILITY)


@pytest.fixture(scope="module")
def kept_dynamics():
    return dynamics("digits", seeds=4, threads=1)


@pytest.mark.train
def test_classes_turn_in_every_seed(kept_dynamics):
    found = kept_dynamics
    assert (found.share == 1).all()
    for c in range(2):
        assert found.critical_error[0, c].low <= found.critical_error[0, c].value <= found.critical_error[0, c].high
        assert found.rebound[0, c].low > 0.2
        errors = np.array([i.train_error for i in found.run.inversion[:, 0, c]])
        assert found.variation[0, c] == pytest.approx(errors.std(ddof=1) / errors.mean())
    errors = critical_errors(found.run)
    assert found.variation_of_mean[0].value == pytest.approx(errors.std(ddof=1) / errors.mean())
    assert "100 %" in found.verdict.sentence
    assert found.table().rows[0][:3] == ("even", "1", "4/4")
    _, axes = found.plot()
    assert axes.get_xlabel() == "training error"


@pytest.mark.train
def test_no_inversion_is_an_answer_with_its_reason(tmp_path):
    rng = np.random.default_rng(0)
    noise = (rng.standard_normal((200, 5)), rng.integers(0, 2, 200))
    too_few = dynamics("digits", seeds=2, epochs=40, threads=1)
    assert too_few.verdict.holds == "undecided"
    assert dynamics("digits", seeds=2, epochs=2, threads=1).verdict.holds == "undecided"
    assert "still falling at the last record" in too_few.verdict.sentence
    assert np.isnan(too_few.critical_error[0, 0].value)
    of_noise = dynamics(noise, seeds=2, epochs=60, threads=1)
    assert of_noise.share.max() < 1
    assert of_noise.verdict.holds == "undecided"
    assert "rose before it fell" in of_noise.verdict.sentence
    short = stability("digits", pairs=3, seeds=1, epochs=30, threads=1)
    assert short.verdict.holds == "undecided"
    assert "no inversion to compare with" in short.verdict.sentence
    for result in (too_few, short):
        result.save(tmp_path)
        assert json.loads((tmp_path / f"{result.name}.json").read_text())["holds"] == result.verdict.holds


@pytest.mark.train
def test_what_keeps_the_stability_of_an_error_open(kept_dynamics):
    no_error = replace(kept_dynamics, variation_of_mean=[student_mean([])])
    assert no_error.verdict.holds == "undecided"
    assert "Networks whose inversions are at a training error of 0 cannot show" in no_error.verdict.sentence
    one = dynamics("digits", seeds=1, epochs=400, threads=1)
    assert one.verdict.holds == "undecided"
    assert "One network cannot show" in one.verdict.sentence


@pytest.mark.train
def test_an_inversion_without_an_error_is_near_nothing(agreement):
    for critical_error, said in ((student_mean([0.0, 0.0]), "to a training error of 0"), (student_mean([0.07]), "One network")):
        found = replace(agreement, critical_error=critical_error).verdict
        assert found.holds == "undecided"
        assert said in found.sentence
    wide = replace(agreement, critical_error=Estimate(0.065, 0.02, 0.03, 0.1)).verdict
    assert wide.holds == "undecided"  # whatever the peak's own interval is


ERRORS = np.geomspace(0.14, 0.03, 11)
AT = Estimate(0.065, 0.001, 0.063, 0.067)


def made_up_stability(kept_wrong, rng, *, spread=2.0, pairs=40, n=1500):
    """Pairs at 11 training errors. Of the points that each network gets wrong, the share `kept_wrong(error)` lies in a fixed
    set of as many, the same for all networks, and the others anywhere; their number varies by `spread` points."""
    wrong = np.zeros((2 * pairs, len(ERRORS), n), bool)
    for s, t in np.ndindex(2 * pairs, len(ERRORS)):
        size = round(n * ERRORS[t] + spread * rng.standard_normal())
        common = round(size * kept_wrong(ERRORS[t]))
        core = round(n * ERRORS[t])
        wrong[s, t, rng.choice(core, min(common, core), replace=False)] = True
        wrong[s, t, rng.choice(np.arange(core, n), size - min(common, core), replace=False)] = True
    return stability_of(wrong[::2], wrong[1::2])


def stability_of(first, second):
    found = _agreement(first, second, ERRORS, 0)
    config = {"data": "made up", "seeds": 5, "training_points": first.shape[2]}
    return Stability(config=config, times=np.arange(len(ERRORS)) + 1, **found, critical_error=AT, reasons="")


def agreeing_most(at):
    return lambda error: max(0.9 - 0.5 * np.log(error / at) ** 2, 0.0)


@pytest.mark.parametrize(
    ("kept_wrong", "holds"),
    [
        (agreeing_most(0.065), "yes"),
        (agreeing_most(0.11), "no"),
        (agreeing_most(0.042), "no"),
        (lambda error: 0.85, "undecided"),  # a plateau
        (agreeing_most(0.02), "undecided"),  # still rising at the last time compared
        (agreeing_most(0.3), "undecided"),
    ],
)
def test_a_planted_peak_of_kappa_is_found_where_it_is(kept_wrong, holds):
    found = made_up_stability(kept_wrong, np.random.default_rng(0))
    answer = next(iter(found.answers.values()))
    assert answer.holds == holds, answer.sentence
    assert found.table().rows


def test_z_peaks_where_the_number_of_wrong_points_varies_least():
    """Two networks agree as much at all times; where |S| varies less between pairs, z is larger, and kappa is not."""
    rng = np.random.default_rng(1)
    n, pairs = 1500, 40
    wrong = np.zeros((2 * pairs, len(ERRORS), n), bool)
    of_pairs = np.where(np.arange(len(ERRORS)) == 5, 1, 6) * rng.standard_normal((pairs, len(ERRORS)))
    for s, t in np.ndindex(2 * pairs, len(ERRORS)):
        size = round(n * ERRORS[t] + of_pairs[s // 2, t])
        wrong[s, t, : round(0.9 * size)] = True
        wrong[s, t, rng.choice(np.arange(n // 2, n), size - round(0.9 * size), replace=False)] = True
    found = stability_of(wrong[::2], wrong[1::2])
    assert np.argmin(found.size_spread) == 5
    assert found.peaks["z"].possible.tolist() == [t == 5 for t in range(11)]
    assert found.peaks["kappa"].possible.sum() > 1


def exchanged(found, rng):
    """The same pairs with their times exchanged at random: none is special."""
    order = np.argsort(rng.random(found.kappa.shape), axis=1)
    rows = np.arange(len(order))[:, None]
    kappa = found.kappa[rows, order]
    z = jackknife(_z_observed, np.stack([found.common[rows, order], found.expected[rows, order]], axis=2))
    peaks = {name: find_peak(values, found.train_error) for name, values in (("kappa", kappa), ("z", z))}
    return replace(found, kappa=kappa, peaks=peaks)


@pytest.mark.train
def test_with_times_exchanged_there_is_no_peak(kept):
    """On recorded curves: of 200 exchanges each question is answered by yes in 1 of 20 at most."""
    recorded = stability("digits", out=kept, pairs=20, seeds=3, epochs=400, threads=1)
    rng = np.random.default_rng(0)
    answers = [[each.holds for each in exchanged(recorded, rng).answers.values()] for _ in range(200)]
    assert np.mean([kappa == "yes" for kappa, _ in answers]) <= 0.05
    assert np.mean([z == "yes" for _, z in answers]) <= 0.05
    assert np.mean([kappa == "undecided" for kappa, _ in answers]) > 0.8


def test_kappa_of_empty_sets():
    found = cohens_kappa(np.array([0, 0, 10]), np.array([0.0, 0.0, 10.0]), np.array([0.0, 5.0, 10.0]), 10)
    assert np.isnan(found[[0, 2]]).all()
    assert found[1] == 0


@pytest.mark.train
def test_the_times_compared_reach_beyond_the_inversion(kept):
    found = stability("digits", out=kept, pairs=20, seeds=3, epochs=400, threads=1)
    assert found.train_error[0] > 1.6 * found.critical_error.value
    assert found.train_error[-1] < 0.6 * found.critical_error.value


def test_an_axis_of_errors_for_anything_drawn():
    for errors in ([], [np.nan], [0.0, 0.0], [0.1, 0.1], [0.2, 0.0], [0.3, 0.01]):
        figure = Figure()
        axes = figure.subplots()
        axes.plot(errors, errors)
        error_axis(axes, 100)
        figure.savefig(io.BytesIO())
        assert axes.get_xlabel() == "training error"


@pytest.mark.train
def test_the_report_lists_every_option(tmp_path, agreement):
    """0 is a value; where experiments differ, each value has their names."""
    options = dict(_config([agreement]))
    assert options["seed"] == "0"
    assert options["times"] == "10, 40, 60, 90, 150"
    assert "subset" not in options  # none asked for
    other = replace(agreement, config={**agreement.config, "lr": 0.1, "momentum": 0.0})
    object.__setattr__(other, "name", "another")
    both = dict(_config([agreement, other]))
    assert both["lr"] == "0.2 (stability); 0.1 (another)"
    assert both["momentum"] == "0.0 (another)"
    assert both["pairs"] == "25"


@pytest.mark.train
def test_independent_networks_agree_most_around_the_inversion(agreement):
    assert agreement.common.shape == agreement.expected.shape == (25, 5)
    kappa = agreement.peaks["kappa"]
    assert not kappa.at_edge
    assert 0.5 < kappa.train_error.value / agreement.critical_error.value < 1.6
    assert all(-1 <= one.low <= one.value <= one.high <= 1 for one in agreement.kappa_mean)
    assert (np.diff(agreement.train_error) < 0).all()
    assert all(z.low <= z.value <= z.high for z in agreement.z)


@pytest.mark.train
def test_agreement_is_that_of_the_networks(agreement):
    """From runs of the pairs' networks, one after the other, and the definitions."""
    n, counts = 1347, np.zeros((25, 3))
    runs = fe.train("digits", seeds=20, epochs=60, lr=0.2, threads=1)
    wrong = runs.misclassified(60)
    common = (wrong[0::2] & wrong[1::2]).sum(1)
    np.testing.assert_array_equal(agreement.common[:10, 2], common)
    np.testing.assert_allclose(agreement.expected[:10, 2], wrong[0::2].sum(1) * wrong[1::2].sum(1) / n)
    counts = agreement.common[:, 2]
    expected = (counts.mean() - agreement.expected[:, 2].mean()) / counts.std(ddof=1)
    assert agreement.z[2].value == pytest.approx(expected)
    from scipy.stats import hypergeom
    from sklearn.metrics import cohen_kappa_score

    variances = [hypergeom(n, a.sum(), b.sum()).var() for a, b in zip(wrong[0::2], wrong[1::2])]
    np.testing.assert_allclose(agreement.null_variance[:10, 2], variances)
    kappas = [cohen_kappa_score(a, b) for a, b in zip(wrong[0::2], wrong[1::2])]
    np.testing.assert_allclose(agreement.kappa[:10, 2], kappas)


def test_z_is_undefined_where_nothing_varies():
    columns = np.array([[3.0, 1.0, 0.0], [3.0, 1.0, 0.0]])
    assert np.isnan(_z_observed(columns, 0))
    assert np.isnan(_z_null(columns, 0))


@pytest.mark.train
def test_finished_parts_are_not_done_again(agreement, kept, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr("fastent.experiments.setting.train", never)
        again = stability("digits", out=kept, **OF_STABILITY)
    assert again.as_json() == agreement.as_json()
    sorted((kept / "parts").glob("pairs-*"))[0].unlink()
    assert stability("digits", out=kept, **OF_STABILITY).as_json() == agreement.as_json()


@pytest.mark.train
@pytest.mark.spawn
def test_killed_and_run_again_is_uninterrupted_bit_for_bit(agreement, tmp_path):
    """kill -9 as soon as the first part is there."""
    command = [
        sys.executable,
        "-c",
        f"from fastent.experiments._stability import stability; stability('digits', out={str(tmp_path)!r}, **{OF_STABILITY!r})",
    ]
    process = subprocess.Popen(command, cwd=os.getcwd())
    while process.poll() is None and not list((tmp_path / "parts").glob("pairs-*")):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert len(list((tmp_path / "parts").glob("pairs-*"))) in (1, 2)
    assert stability("digits", out=tmp_path, **OF_STABILITY).as_json() == agreement.as_json()


def test_a_run_cut_short_goes_on(tmp_path):
    setting = Setting.make("digits", seeds=2, out=tmp_path, options={"epochs": 60, "threads": 1})
    place = setting.parts.place("base", setting.config)

    def interrupt(done, total, message):
        if done == 30:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        fe.train("digits", seeds=2, epochs=60, threads=1, checkpoint=place, progress=interrupt)
    assert not fe.load_run(place).complete
    run = setting.train("base")
    np.testing.assert_array_equal(run.radius, fe.train("digits", seeds=2, epochs=60, threads=1).radius)
    assert fe.load_run(place).complete


def test_parts_depend_on_everything_that_matters():
    usual = {"epochs": 5, "threads": 2}
    base = Setting.make("digits", seeds=2, options=usual).config
    for other in ({"epochs": 6}, {"lr": 0.3}, {"exclude": [3]}, {"classes": "all"}, {"threads": 1}):
        assert cache_key(Setting.make("digits", seeds=2, options=usual | other).config) != cache_key(base)
    assert cache_key(Setting.make("digits", seeds=2, options=usual).config) == cache_key(base)


def test_parts_without_a_folder_are_made_each_time():
    parts, made = ResultCache(None), []
    for _ in range(2):
        parts.keep("a", {}, lambda: made.append(1) or {})
    assert len(made) == 2


def test_a_preset_is_overruled_by_what_is_said():
    x = np.random.default_rng(0).standard_normal((9000, 3))
    y = np.arange(9000) % 2
    assert len(Setting.make((x, y), seeds=1, preset="paper", options={}).data.index) == 6750  # no more points than there are
    assert len(Setting.make((x, y, x, y), seeds=1, preset="paper", options={}).data.index) == 8192
    assert len(Setting.make((x, y, x, y), seeds=1, preset="paper", options={"subset": 100}).data.index) == 100


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": 3}, "colour=3: no option of load_data or train"),
        ({"preset": "mine"}, "preset='mine'"),
        ({"pairs": 2}, "pairs=2"),
        ({"times": (20, 10)}, "ascending epochs"),
        ({"seeds": 0}, "seeds=0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(fe.FastentError, match=message):
        stability("digits", **{"pairs": 3, **options})


def test_estimates_as_text():
    assert estimate_text(Estimate(0.0661, 0, 0.0643, 0.0676), percent=True) == "6.61 % (6.43 to 6.76)"
    assert estimate_text(Estimate(2.0, math.nan, math.nan, math.nan), digits=1) == "2.0"
    assert estimate_text(Estimate(*[math.nan] * 4)) == "\u2013"


@pytest.mark.train
def test_from_the_command_line(tmp_path):
    command = ["experiment", "dynamics", "--seeds", "2", "--epochs", "40", "--out", str(tmp_path)]
    result = fastent(*command, "--classes", "all", "--threads", "1")
    assert result.exit_code == 0, result.stderr
    assert "Undecided" in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dynamics.json", "dynamics.svg", "parts", "report.html"]
    page = (tmp_path / "report.html").read_text()
    assert "data:image/svg+xml;base64," in page
    assert "fastent experiment dynamics --seeds 2" in page
    assert "<script" not in page
    assert json.loads((tmp_path / "dynamics.json").read_text())["config"]["classes"] == "all"
    bad = fastent("experiment", "stability", "--times", "5,x")
    assert bad.exit_code == 2
    assert "times='5,x'" in bad.stderr


@pytest.mark.train
def test_classes_that_seldom_turn_do_not_hide_those_that_do():
    run = dynamics("digits", seeds=3, epochs=400).run
    inversion = run.inversion.copy()
    inversion[1:, -1, 1] = Inversion(False, "rose before it fell")
    altered = replace(run)
    object.__setattr__(altered, "inversion", inversion)
    np.testing.assert_array_equal(compared_classes([altered]), [True, False])
    np.testing.assert_array_equal(critical_errors(altered), [row[0].train_error for row in run.inversion[:, -1]])
    assert np.isnan(critical_errors(altered, classes=np.array([True, True]))).sum() == 2
    said = compared_text(run.class_names, compared_classes([altered]))
    assert said == "Only one class of 2 turns in at least half of the networks and is compared: even."
    assert compared_text(["a", "b", "c"], np.array([True, False, True])).endswith("networks and are compared: a, c.")
    assert compared_text(run.class_names, compared_classes([run])) == ""
    # Two runs of three networks: the class turns in four of six.
    np.testing.assert_array_equal(compared_classes([altered, run]), [True, True])


@pytest.mark.train
def test_several_experiments_have_an_overview_and_a_page_each(tmp_path, kept_dynamics, agreement):
    write_experiments_report([kept_dynamics], tmp_path / "report.html", command="fastent experiment all")
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    one = (tmp_path / "report.html").read_text()
    write_experiments_report([kept_dynamics, agreement], tmp_path / "report.html", command="fastent experiment all")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["dynamics.html", "report.html", "stability.html"]
    overview, page = ((tmp_path / name).read_text() for name in ("report.html", "stability.html"))
    for name in ("dynamics", "stability"):
        assert f'<a href="{name}.html">' in overview
    assert '<a href="report.html">' in page
    assert 'href="report.html"' not in one
    for question, (_, sentence) in agreement.answers.items():
        for text in (overview, page):
            assert str(escape(question)) in text
            assert str(escape(sentence)) in text
    # Tables are on the pages, and a second picture where there is one.
    assert overview.count("<table") == 0
    assert page.count("<table") == 1
    assert [text.count("data:image/svg+xml") for text in (overview, page, one)] == [2, 2, 1]


def test_parts_are_found_again_whatever_number_of_threads_a_part_leaves_behind(tmp_path):
    import torch

    before = torch.get_num_threads()
    try:
        for _ in range(2):
            torch.set_num_threads(1)
            cache = ResultCache(tmp_path)
            for name in ("first", "second"):
                cache.keep(name, {"a": 1}, lambda: {"x": np.zeros(1)})
                torch.set_num_threads(2)
    finally:
        torch.set_num_threads(before)
    assert len(list((tmp_path / "parts").iterdir())) == 2


@pytest.mark.train
def test_what_one_experiment_cannot_do_does_not_stop_the_others(tmp_path, monkeypatch, kept_dynamics):
    from fastent.cli import experiments as cli_experiments

    def carry_out(name, given):
        if name == "dynamics":
            return kept_dynamics
        raise fe.FastentError("size=9: a block lacks a class")

    monkeypatch.setattr(cli_experiments, "_carry_out", carry_out)
    result = fastent("experiment", "all", "--out", str(tmp_path / "some"))
    assert result.exit_code == 0
    assert "Not carried out: blocks: size=9: a block lacks a class" in result.stderr
    assert (tmp_path / "some" / "dynamics.json").exists()
    monkeypatch.setattr(cli_experiments, "_carry_out", lambda name, given: carry_out("none", given))
    result = fastent("experiment", "all", "--out", str(tmp_path / "none"))
    assert result.exit_code == 2
    assert "no experiment could be carried out" in result.stderr
