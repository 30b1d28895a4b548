"""What is known of each straggler: predictions from a training that is repeated, and nearest points against brute force."""

from dataclasses import replace

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest
from scipy.spatial.distance import cdist

import fastent as fe
from fastent.training.predictions import predictions_at_end, predictions_at_inversions
from fastent.training.straggler_list import Predictions
from fastent.training.stragglers import nearest, stragglers_of

TRAININGS = {
    "full batches": {"epochs": 300, "seeds": 3},
    "batches, within passes": {"epochs": 6, "seeds": 2, "batch_size": 16, "lr": 0.5},
    "adam": {"epochs": 60, "seeds": 2, "optimizer": "adam", "lr": 0.02, "hidden": (20, 20)},
    "cnn": {"epochs": 5, "seeds": 2, "model": "cnn", "optimizer": "adam", "lr": 0.01, "batch_size": 64},
}


@pytest.fixture(scope="module")
def digits():
    return fe.load_data("digits")


@pytest.fixture(scope="module")
def run(digits):
    return fe.train(digits, epochs=300, seeds=3)


def turning_somewhere(run, seed):
    """The same run as if it turned at records that are drawn, so that every training has stragglers to be asked about."""
    rng = np.random.default_rng(seed)
    at = rng.integers(1, len(run.epoch), (run.n_seeds, len(run.classes)))
    bits = np.zeros((run.n_seeds, len(run.index)), bool)
    for s in range(run.n_seeds):
        for c in range(len(run.classes)):
            bits[s] |= run.misclassified(run.epoch[at[s, c]])[s] & (run.codes == c)
    return replace(run, straggler_bits=np.packbits(bits, axis=1), straggler_epochs=run.epoch[at].astype(float)), bits


@pytest.mark.parametrize("name", TRAININGS)
def test_predictions_are_those_of_the_recorded_networks(digits, name):
    trained = fe.train(digits, **TRAININGS[name])
    asked, wrong = turning_somewhere(trained, 0)
    points = np.flatnonzero(wrong.any(0))[:60]
    own, networks = trained.codes[points], np.arange(len(points))
    found = predictions_at_inversions(asked, digits, points)
    np.testing.assert_allclose(1 - found.votes[networks, own], wrong[:, points].mean(0), atol=1e-12)
    np.testing.assert_allclose(found.probability.sum(1), 1)
    assert (found.predicted[wrong[:, points].mean(0) > 0.5] != own[wrong[:, points].mean(0) > 0.5]).all()
    at_end = predictions_at_end(trained, digits, points)
    still = trained.misclassified(trained.epoch[-1])[:, points].mean(0)
    np.testing.assert_allclose(1 - at_end.votes[networks, own], still, atol=1e-12)


def test_predictions_are_the_mean_softmax_of_snapshots(digits, run):
    seen = {}
    fe.train(digits, epochs=300, seeds=3, observe=lambda snapshot: seen.update({snapshot.epoch: snapshot.probability.copy()}))
    points = np.flatnonzero(run.stragglers.any(0))
    found = predictions_at_inversions(run, digits, points)
    for i, point in enumerate(points):
        c = run.codes[point]
        turned = np.flatnonzero(run.turned[:, -1, c])
        expected = np.mean([seen[int(run.straggler_epoch[s, c])][s, point] for s in turned], axis=0)
        np.testing.assert_allclose(found.probability[i], expected, rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(predictions_at_end(run, digits, points).probability, seen[300][:, points].mean(0), rtol=1e-5)


def test_a_training_that_takes_another_course_is_refused(digits, run):
    other = replace(run, wrong=run.wrong[::-1].copy())
    with pytest.raises(fe.FastentError, match="took another course"):
        predictions_at_inversions(other, digits, np.arange(5))
    found = stragglers_of(other, digits)
    assert found.at_inversion is None
    assert "took another course" in found.notes[0]


def test_other_data_are_refused(run):
    with pytest.raises(fe.FastentError, match="other training points"):
        fe.stragglers(run, fe.load_data("digits", exclude=[0]))


def test_what_cannot_be_known_is_said(digits):
    mask = np.zeros((2, len(digits.x_train)), bool)
    mask[0, :7] = True
    found = fe.stragglers(fe.train(digits, epochs=250, seeds=2, exclude_per_seed=mask))
    assert found.at_inversion is None
    assert "exclude_per_seed" in found.notes[0]
    assert "predicted_at_end" not in found.table().column_names
    rng = np.random.default_rng(0)
    arrays = fe.train((rng.standard_normal((60, 5)), rng.integers(0, 2, 60)), epochs=5, seeds=1)
    lacking = fe.stragglers(arrays)
    assert "was given arrays" in lacking.notes[0]
    with pytest.raises(fe.FastentError, match=r"pass what fe\.train"):
        fe.stragglers(3)


def test_ties_of_votes_go_to_the_larger_probability_and_unknown_points_to_none():
    votes = np.array([[0.5, 0.5, 0.0], [0.2, 0.3, 0.5], [np.nan] * 3])
    said = Predictions(votes, np.array([[0.4, 0.45, 0.15], [0.5, 0.3, 0.2], [np.nan] * 3]))
    assert said.predicted.tolist() == [1, 2, -1]
    np.testing.assert_array_equal(said.of(said.predicted), [0.45, 0.2, np.nan])


@pytest.mark.parametrize("compared", [0, 2e9])
def test_hits_and_misses_are_the_nearest(monkeypatch, compared):
    monkeypatch.setattr("fastent.search.few_queries._COMPARED", compared)
    rng = np.random.default_rng(0)
    rows, codes = rng.integers(0, 4, (120, 3)).astype(float), rng.integers(0, 3, 120)  # many ties
    codes[7] = 3  # alone in its class
    points = np.append(7, rng.permutation(np.delete(np.arange(120), 7))[:49])
    found = nearest(rows, codes, points)
    apart = cdist(rows, rows)
    np.fill_diagonal(apart, np.inf)
    for i, point in enumerate(points):
        for which, mask in (("hit", codes == codes[point]), ("miss", codes != codes[point])):
            among = np.where(mask, apart[point], np.inf)
            expected = int(among.argmin()) if np.isfinite(among).any() else -1
            assert getattr(found, f"{which}_point")[i] == expected
            np.testing.assert_allclose(getattr(found, which)[i], among.min() if expected >= 0 else np.nan, rtol=1e-6)
    known = ~np.isnan(found.hit)
    assert ((found.nearness[known] >= 0) & (found.nearness[known] <= 1)).all()


def test_the_table_has_every_straggler_and_comes_back_from_both_files(digits, run, tmp_path):
    found = fe.stragglers(run, digits)
    assert "Stragglers(" in repr(found)
    assert (np.diff(found.hardness.share) <= 0).all()
    np.testing.assert_array_equal(np.sort(found.index), np.sort(run.index[run.stragglers.any(0)]))
    found.save(tmp_path)
    table = pyarrow.parquet.read_table(tmp_path / "stragglers.parquet")
    assert table.equals(found.table())
    assert b"fastent.config" in table.schema.metadata
    text = pyarrow.csv.read_csv(tmp_path / "stragglers.csv")
    assert text.column_names == table.column_names
    np.testing.assert_array_equal(text["index"].to_numpy(), found.index)
    np.testing.assert_allclose(text["miss_distance"].to_numpy(), found.nearest.miss)
    wrong_at_end = np.array(table["predicted_at_end"].to_pylist()) != np.array(table["class"].to_pylist())
    assert (wrong_at_end == (found.hardness.at_end > 0.5))[found.hardness.at_end != 0.5].all()
    few = found.take(np.array([2, 0]))
    assert few.index.tolist() == found.index[[2, 0]].tolist()
    assert few.table().to_pylist() == [found.table().to_pylist()[i] for i in (2, 0)]


def test_a_run_has_the_same_table_as_far_as_it_knows(digits, run, tmp_path):
    whole, alone = fe.stragglers(run, digits).table(), run.table("stragglers")
    assert alone.equals(whole.select(alone.column_names))
    run.save(tmp_path)
    assert pyarrow.parquet.read_table(tmp_path / "stragglers.parquet").equals(alone)


def test_a_run_without_stragglers_has_an_empty_table(digits, tmp_path):
    short = fe.train(digits, epochs=5, seeds=1)
    found = fe.stragglers(short, digits)
    assert len(found) == 0
    assert found.table().num_rows == 0
    found.save(tmp_path)
