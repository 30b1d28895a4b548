"""The experiments at reduced size: what they claim on digits, and what they compute, by hand."""

import json

import numpy as np
import pytest
from scipy.stats import f_oneway

import fastent as fe
import fastent.experiments as ex
from fastent.experiments.difficulty import SCORES, forgetting
from fastent.experiments.pruning import same_mix
from fastent.experiments.subsampling import _change
from fastent.experiments.sweep import FACTORS, _design, analysis_of_variance

ONE = {"threads": 1}


@pytest.fixture(scope="module")
def digits():
    return fe.load_data("digits")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("kept")


def assert_kept(function, kept, first, monkeypatch, **options):
    """Again from what is kept: nothing trained, the same bits. With one part gone: the same bits."""

    def never(*arguments, **more):
        raise AssertionError("trained again")

    with monkeypatch.context() as patched:
        patched.setattr("fastent.experiments.setting.train", never)
        assert function(out=kept, **options).as_json() == first.as_json()
    parts = sorted(path for path in (kept / "parts").iterdir() if path.is_file())
    if parts:
        parts[-1].unlink()
        assert function(out=kept, **options).as_json() == first.as_json()


def assert_whole(result, folder):
    """It can be shown, drawn and saved."""
    result.save(folder)
    stored = json.loads((folder / f"{result.name}.json").read_text())
    assert stored["verdict"] == result.verdict.sentence
    assert (folder / f"{result.name}.svg").stat().st_size > 2000
    content = result.table()
    assert all(len(row) == len(content.headings) for row in content.rows)
    assert result.verdict.sentence in repr(result)


def test_without_stragglers_there_is_no_inversion(digits, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 3, "draws": 1, **ONE}
    found = ex.pruning(out=tmp_path, **options)
    everything, without, random, _ = found.arms
    assert found.verdict.holds == "yes"
    assert everything.share == random.share == 1
    assert without.share == 0
    assert without.depth.high < 0.05 < random.depth.low
    assert len({arm.points for arm in found.arms[1:]}) == 1
    assert len(found.stragglers) == len(digits.index) - without.points
    assert_whole(found, tmp_path)
    assert_kept(ex.pruning, tmp_path, found, monkeypatch, **options)


def test_without_an_inversion_there_is_nothing_to_prune(digits, tmp_path):
    found = ex.pruning(digits, seeds=2, epochs=50, **ONE)
    assert len(found.arms) == 1
    assert found.verdict.holds == "undecided"
    assert "still falling at the last epoch" in found.verdict.sentence
    assert_whole(found, tmp_path)


def test_random_points_of_the_same_classes():
    codes = np.random.default_rng(0).integers(0, 3, 200)
    mask = same_mix(codes, np.array([5, 0, 17]), np.random.default_rng(1))
    assert np.bincount(codes[mask], minlength=3).tolist() == [5, 0, 17]


def test_points_misclassified_at_the_inversion_matter_most(digits, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 3, "points": 3, "epochs": 700, **ONE}
    found = ex.generalization(out=tmp_path, **options)
    assert found.train_error.shape == found.without["clean"].shape == found.control["noisy"].shape == (3, 3)
    assert (np.diff(found.train_error.mean(1)) < 0).all()
    assert found.effect("clean", 1).low > 0
    assert (found.unpruned["noisy"] > found.unpruned["clean"]).all()
    assert found.at_inversion is not None
    assert "near the inversion's" in found.verdict.sentence
    assert_whole(found, tmp_path)
    assert_kept(ex.generalization, tmp_path, found, monkeypatch, **options)


def test_generalization_is_that_of_networks_trained_without(digits):
    found = ex.generalization(digits, seeds=2, points=1, epochs=60, noise=0.0, **ONE)
    base = fe.train(digits, seeds=2, epochs=60, lr=0.2, **ONE)
    without = fe.train(digits, seeds=2, epochs=60, lr=0.2, exclude_per_seed=base.misclassified(5), **ONE)
    assert found.times.tolist() == [5]
    np.testing.assert_array_equal(found.train_error[0], base.train_error[:, 5])
    np.testing.assert_array_equal(found.unpruned["clean"], base.test_error[:, -1])
    np.testing.assert_allclose(found.without["clean"][0], without.test_error[:, -1])
    np.testing.assert_allclose(found.without["noisy"], found.without["clean"])
    assert found.verdict.holds == "undecided"
    assert "no inversion at which to look" in found.verdict.sentence


def test_subsampling(digits, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 2, "sizes": (150, 900, 1347), "draws": 2, **ONE}
    found = ex.subsampling(out=tmp_path, **options)
    assert [errors.shape for errors in found.critical_errors] == [(2, 2), (2, 2), (1, 2)]
    assert found.shares[-1] == 1
    assert found.shares[0] < 1
    assert "still falling" in found.reasons[0] or "prominence" in found.reasons[0]
    run = fe.train(digits, seeds=2, **ONE)
    np.testing.assert_allclose(
        found.critical_errors[2][0], [np.mean([i.train_error for i in row]) for row in run.inversion[:, -1]]
    )
    assert_whole(found, tmp_path)
    assert_kept(ex.subsampling, tmp_path, found, monkeypatch, **options)
    none = ex.subsampling(digits, seeds=1, sizes=(200, 300), draws=1, epochs=40, **ONE)
    assert none.verdict.holds == "undecided"
    assert "still falling at the last epoch" in none.verdict.sentence
    assert_whole(none, tmp_path)


def test_change_for_each_doubling():
    errors = [np.array([[0.1, np.nan], [0.1, 0.1]]), np.array([[0.2, 0.2]]), np.array([[0.32]])]
    change = _change(np.array([100, 200, 400]), errors)
    assert change.value == pytest.approx(np.polyfit([0, 0, 1, 2], [0.1, 0.1, 0.2, 0.32], 1)[0] / 0.18)
    assert change.low < change.value < change.high
    assert np.isnan(_change(np.array([100, 200]), [np.array([[0.1]]), np.array([[np.nan]])]).value)


@pytest.mark.parametrize("cells", [8, 48, 100, 200, 216])
def test_a_sweep_is_balanced(cells):
    design = _design(cells, 0)
    assert len({tuple(cell.values()) for cell in design}) == cells
    for name, levels in FACTORS.items():
        counts = [sum(cell[name] == level for cell in design) for level in levels]
        assert max(counts) - min(counts) <= 1
    assert _design(cells, 0) == design


def test_sweep(digits, kept, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 1, "cells": 8, "epochs": 300, **ONE}
    found = ex.sweep(out=kept, **options)
    assert found.critical_errors.shape == (8, 1)
    assert all(reason or not np.isnan(errors).any() for reason, errors in zip(found.reasons, found.critical_errors))
    for factor in found.factors.values():
        assert len(factor.levels) == len(factor.critical_error) == len(factor.found)
        assert np.isnan(factor.eta_squared) or 0 <= factor.eta_squared <= 1
    assert_whole(found, tmp_path)
    assert_kept(ex.sweep, kept, found, monkeypatch, **options)
    none = ex.sweep(digits, seeds=1, cells=8, epochs=30, **ONE)
    assert none.verdict.holds == "undecided"
    assert "Too few cells" in none.verdict.sentence
    assert_whole(none, tmp_path)


def test_analysis_of_variance():
    rng = np.random.default_rng(0)
    levels = np.repeat([0, 1, 2], [9, 14, 11])
    values = rng.standard_normal(34) + levels
    eta, f, p = analysis_of_variance(values, {"a": levels})["a"]
    expected = f_oneway(*(values[levels == i] for i in range(3)))
    assert (f, p) == pytest.approx((expected.statistic, expected.pvalue))
    total = ((values - values.mean()) ** 2).sum()
    within = sum(((values[levels == i] - values[levels == i].mean()) ** 2).sum() for i in range(3))
    assert eta == pytest.approx(1 - within / total)
    # A balanced second factor changes what is left, not what the first explains.
    a, b = np.repeat([0, 1], 12), np.tile([0, 1, 2], 8)
    values = 0.5 * a + 2.0 * b + rng.standard_normal(24)
    effects = analysis_of_variance(values, {"a": a, "b": b, "constant": np.zeros(24, int)})
    between = 24 * ((values[a == 1].mean() - values[a == 0].mean()) / 2) ** 2
    fitted = values[a == 0].mean() + (values[a == 1].mean() - values[a == 0].mean()) * a
    fitted = fitted + np.array([values[b == i].mean() for i in b]) - values.mean()
    left = ((values - fitted) ** 2).sum()
    assert effects["a"][0] == pytest.approx(between / (between + left))
    assert effects["a"][1] == pytest.approx(between / (left / 20))
    assert np.isnan(effects["constant"][0])


def test_difficulty(digits, kept, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 3, "epochs": 500, **ONE}
    found = ex.difficulty(out=kept, **options)
    assert set(found.scores) == set(SCORES)
    assert found.flipped.sum() == round(0.05 * len(digits.index))
    assert all(values.shape == (len(digits.index),) for values in (*found.scores.values(), *found.noisy_scores.values()))
    assert min(found.precision[name].low for name in ("AUM", "confidence", "incorrectness")) > 0.4
    assert found.precision["straggler share"].low > found.flipped.mean()
    assert all(estimate.low > 0 for estimate in found.correlation.values())
    assert ((found.gradient_share >= 0) & (found.gradient_share <= 1)).all()
    assert_whole(found, tmp_path)
    assert_kept(ex.difficulty, kept, found, monkeypatch, **options)


def test_scores_by_hand(digits):
    few = digits.take(np.arange(60))
    seen = []
    run = fe.train(few, seeds=2, epochs=30, observe=lambda s: seen.append((s.logits, s.probability)), **ONE)
    found = ex.difficulty(few, seeds=2, epochs=30, el2n_epoch=7, noise=0.1, **ONE)
    own = np.stack([p[:, np.arange(60), few.y_train] for _, p in seen])
    other = np.stack([z[:, np.arange(60), 1 - few.y_train] for z, _ in seen]).astype(float)
    logit = np.stack([z[:, np.arange(60), few.y_train] for z, _ in seen]).astype(float)
    np.testing.assert_allclose(found.scores["confidence"], 1 - own.mean((0, 1)))
    np.testing.assert_allclose(found.scores["variability"], own.std(0).mean(0), atol=1e-7)
    np.testing.assert_allclose(found.scores["AUM"], (other - logit).mean((0, 1)))
    np.testing.assert_allclose(found.scores["EL2N"], np.sqrt(2) * (1 - own[7]).mean(0))
    np.testing.assert_allclose(found.scores["final loss"], -np.log(own[-1]).mean(0))
    wrong = np.stack([run.misclassified(e) for e in range(31)], axis=1)
    np.testing.assert_allclose(found.scores["incorrectness"], wrong.mean((0, 1)))
    assert "straggler share" not in found.scores
    assert found.verdict.holds == "undecided"
    assert "no stragglers" in found.verdict.sentence


def test_forgetting():
    wrong = np.array([[1, 0, 1, 1], [0, 0, 1, 1], [1, 0, 0, 1], [1, 1, 1, 1]], bool)
    events, never = forgetting(wrong)
    assert events.tolist() == [1, 1, 1, 0]
    assert never.tolist() == [False, False, False, True]


def test_flipped_labels(digits):
    data = fe.load_data("digits", classes="all")
    noisy, flipped = ex.flip_labels(data, 0.1, 3)
    assert ((noisy.y_train != data.y_train) == flipped).all()
    assert flipped.sum() == round(0.1 * len(data.y_train))
    assert len(np.unique(noisy.y_train[flipped])) == 10
    assert noisy.fingerprint != data.fingerprint
    assert (ex.flip_labels(data, 0.1, 3)[1] == flipped).all()


def test_entanglement(digits, kept, tmp_path, monkeypatch):
    options = {"data": digits, "seeds": 2, "points": 14, "epochs": 700, **ONE}
    found = ex.entanglement(out=kept, **options)
    assert found.found["radius"] == found.found["distance"] == 1
    assert found.ratio["distance"].value == pytest.approx(1, abs=0.3)
    assert "still rising at the last epoch" in found.reasons["overlap"]
    assert found.verdict.holds == "no"
    assert_whole(found, tmp_path)
    assert_kept(ex.entanglement, kept, found, monkeypatch, **options)
    few = digits.take(np.arange(300))
    seen = {}
    fe.train(few, seeds=1, seed=1, epochs=6, observe=lambda s: seen.update({s.epoch: s.hidden()[0]}), **ONE)
    short = ex.entanglement(few, seeds=2, points=5, epochs=6, **ONE)
    i = int(np.searchsorted(short.epoch, 6))
    X = seen[6] / np.linalg.norm(seen[6], axis=1, keepdims=True)
    near = fe.neighbors(X, 10)
    assert short.curves["overlap"][1, i] == pytest.approx(fe.mixing(near, few.y_train).balanced_overlap)
    assert short.curves["relative margin"][1, i] == pytest.approx(fe.margins(X, few.y_train).relative.mean(), rel=1e-5)
    loss = fe.soft_nearest_neighbor_loss(X, few.y_train).loss
    assert short.curves["soft nearest neighbour loss"][1, i] == pytest.approx(loss, rel=1e-5)
    assert short.verdict.holds == "undecided"


@pytest.mark.parametrize(
    ("function", "options", "message"),
    [
        ("pruning", {"share": 0}, "share=0"),
        ("pruning", {"draws": 0}, "draws=0"),
        ("generalization", {"points": 0}, "points=0"),
        ("generalization", {"noise": -1}, "noise=-1"),
        ("subsampling", {"sizes": (900, 500)}, "ascending numbers of points"),
        ("subsampling", {"sizes": (500, 5000)}, "sizes=5000"),
        ("sweep", {"cells": 217}, "cells=217"),
        ("sweep", {"lr": 0.1}, "lr=0.1: that varies in a sweep"),
        ("difficulty", {"noise": 0.9}, "noise=0.9"),
        ("difficulty", {"el2n_epoch": 99, "epochs": 9}, "el2n_epoch=99"),
        ("entanglement", {"points": 2}, "points=2"),
    ],
)
def test_bad_options(digits, function, options, message):
    with pytest.raises(fe.FastentError, match=message):
        getattr(ex, function)(digits, **options)
