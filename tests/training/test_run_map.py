"""Maps of a run's training points: the layers are those that the networks had, stragglers are always shown."""

import numpy as np
import pytest

import fastent as fe
from fastent.errors import FastentError
from fastent.training.run_map import final_layers, run_maps


@pytest.fixture(scope="module")
def trained():
    data, seen = fe.load_data("digits", classes="all"), {}

    def observe(snapshot):
        seen.update(hidden=[snapshot.hidden(i)[0].copy() for i in (0, 1)], predicted=snapshot.logits[0].argmax(1))

    return fe.train(data, hidden=(20, 12), seeds=2, epochs=60, observe=observe), data, seen


def test_layers_and_predictions_are_those_of_the_first_network_at_the_end(trained):
    run, data, seen = trained
    found = final_layers(run, data)
    for layer, oracle in zip(found.hidden, seen["hidden"]):
        np.testing.assert_allclose(layer, oracle, atol=1e-5)
    np.testing.assert_array_equal(found.predicted, seen["predicted"])
    np.testing.assert_array_equal(found.predicted != run.codes, run.misclassified(60)[0])


def test_relu_and_parity_have_layers_too():
    data, seen = fe.load_data("digits"), {}
    run = fe.train(data, activation="relu", seeds=1, epochs=5, observe=lambda at: seen.update(h=at.hidden()[0].copy()))
    np.testing.assert_allclose(final_layers(run, data).hidden[0], seen["h"], atol=1e-5)


def test_maps_of_layers_are_of_the_same_points(trained):
    run, data, seen = trained
    found = run_maps(run, data, ("pca",))
    np.testing.assert_array_equal(found.hidden["pca"].rows, found.inputs["pca"].rows)
    oracle = fe.map_points(seen["hidden"][1]).coordinates
    np.testing.assert_allclose(found.hidden["pca"].coordinates, oracle, atol=1e-3)
    of_pixels = run_maps(run, data.raw, ("pca",))
    assert not of_pixels.hidden
    np.testing.assert_array_equal(
        of_pixels.inputs["pca"].coordinates, fe.map_points(data.raw.reshape(len(data.raw), -1)).coordinates
    )
    assert run_maps(run, data, ()).inputs == {}


def test_stragglers_are_shown_in_any_case(trained, monkeypatch):
    run, data, _ = trained
    monkeypatch.setattr("fastent.training.run_map.MOST_SHOWN", 300)
    share = np.zeros(len(run.codes))
    share[[5, 700, 1200]] = 0.5, 1.0, 0.9
    run.__dict__["straggler_share"] = share
    monkeypatch.setattr(type(run), "straggler_share", share)
    found = run_maps(run, data, ("pca",))
    assert found.kept == 3
    assert np.isin([5, 700, 1200], found.inputs["pca"].rows).all()
    assert len(found.inputs["pca"].rows) == 300


def test_the_run_draws_its_map(trained):
    run, data, _ = trained
    _, axes = run.plot("map", data=data, layer=0)
    assert axes.get_title().startswith("PCA: ")
    run.plot("map", data=data.raw)
    for call, said in (
        (lambda: run.plot("map"), "kind='map' needs the training points: pass data=fe.load_data(...)"),
        (lambda: run.plot("map", data=fe.load_data("digits")), "pass the same data"),
        (lambda: run.plot("map", data=data.raw[:9]), "run has 1347 rows but points has 9"),
    ):
        with pytest.raises(FastentError) as caught:
            call()
        assert said in str(caught.value)


def test_a_network_of_your_own_has_a_map_of_its_inputs(trained):
    _, data, _ = trained
    run = fe.train(data, model="cnn", seeds=1, epochs=1)
    assert final_layers(run, data) is None
    assert not run_maps(run, data, ("pca",)).hidden
