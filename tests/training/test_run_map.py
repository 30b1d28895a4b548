"""Maps of a run's training points: the layers are those that the networks had, stragglers are always shown."""

from dataclasses import replace

import numpy as np
import pytest
from torch import nn

import fastent as fe
from fastent.errors import FastentError
from fastent.training.predictions import predictions_at_end
from fastent.training.remade import first_network_at_end
from fastent.training.run_map import run_maps
from fastent.training.stragglers import stragglers_of


@pytest.fixture(scope="module")
def trained():
    data, seen = fe.load_data("digits", classes="all"), {}

    def observe(snapshot):
        seen.update(hidden=[snapshot.hidden(i)[0].copy() for i in (0, 1)], predicted=snapshot.logits[0].argmax(1))

    return fe.train(data, hidden=(20, 12), seeds=2, epochs=60, observe=observe), data, seen


def test_layers_and_predictions_are_those_of_the_first_network_at_the_end(trained):
    run, data, seen = trained
    found = first_network_at_end(run, data)
    for layer, oracle in enumerate(seen["hidden"]):
        np.testing.assert_array_equal(found.hidden(layer)[0], oracle)
        np.testing.assert_array_equal(found.hidden(layer, np.array([7, 3]))[0], oracle[[7, 3]])
    predicted = run_maps(run, data, ("pca",)).predicted
    np.testing.assert_array_equal(predicted, seen["predicted"])
    np.testing.assert_array_equal(predicted != run.codes, run.misclassified(60)[0])


class Normalized(nn.Module):
    """Draws at random while it learns, and keeps statistics of its batches."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.3))
        self.head = nn.Linear(12, 10)

    def forward(self, rows):
        return self.head(self.body(rows))


KINDS = {
    "relu": {"activation": "relu", "classes": "parity"},
    "adam": {"optimizer": "adam", "lr": 0.01},
    "batches": {"batch_size": 100, "hidden": (9, 8)},
    "cnn": {"model": "cnn"},
    "cnn-relu-float64": {"model": "cnn", "activation": "relu", "dtype": "float64"},
    "yours": {"model": Normalized},
    "yours-two-layers": {"model": Normalized, "layers": ("body.0", "body")},
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_network_has_its_layers_on_the_map(kind):
    seen, options = {}, {"classes": "all", **KINDS[kind]}
    data = fe.load_data("digits", classes=options.pop("classes"))
    layers = range(len(options.get("layers", options.get("hidden", [20]))))
    run = fe.train(
        data, seeds=2, epochs=3, observe=lambda at: seen.update(layers=[at.hidden(i)[0].copy() for i in layers]), **options
    )
    assert len(seen["layers"]) == run.n_layers
    for layer, oracle in enumerate(seen["layers"]):
        found = run_maps(run, data, ("pca",), layer=layer)
        assert found.without_hidden == ""
        shown = found.hidden["pca"]
        expected = fe.map_points(oracle[shown.rows]).coordinates
        np.testing.assert_allclose(shown.coordinates, expected, atol=1e-4 * np.abs(expected).max())
        np.testing.assert_array_equal(found.predicted != run.codes, run.misclassified(3)[0])


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


def test_why_a_layer_is_not_on_the_map(trained, tmp_path):
    _, data, _ = trained
    whole = run_maps(trained[0], data.raw, ("pca",))
    assert whole.without_hidden == "only the points themselves were given, not fe.Data"
    run = fe.train(data, model=Normalized, seeds=1, epochs=2)
    run.config["model"] = "gone:Network"
    found = run_maps(run, data, ("pca",))
    assert not found.hidden
    assert found.predicted is None
    assert found.without_hidden.startswith("model='gone:Network' cannot be imported (No module named 'gone')")
    with pytest.raises(FastentError, match=r"the hidden layer is not known .* data=data\.raw draws the points"):
        run.plot("map", data=data)
    changed = fe.train(data, model="cnn", activation="relu", seeds=1, epochs=40, lr=0.5)
    changed.config["activation"] = "tanh"  # as if the code were another now
    assert "its code must be another now: train the run again" in run_maps(changed, data, ("pca",)).without_hidden


class Wider(Normalized):
    def __init__(self):
        super().__init__()
        self.body[0], self.body[1], self.head = nn.Linear(64, 13), nn.BatchNorm1d(13), nn.Linear(13, 10)


class Deeper(Normalized):
    def __init__(self):
        super().__init__()
        self.body.append(nn.Linear(12, 12))


class Slim(Normalized):
    def __init__(self):
        super().__init__()
        self.body[1] = nn.Identity()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (Wider, "parameter 0 of each network has shape (13, 64), and shape (12, 64) when the run was trained"),
        (Deeper, "parameter 4 of each network has shape (12, 12), and shape (10, 12) when"),
        (Slim, "parameter 2 of each network has shape (10, 12), and shape (12,) when"),
    ],
)
def test_a_model_whose_code_has_other_shapes_now_is_not_on_the_map(trained, code, said):
    data = trained[1]
    run = fe.train(data, model=Normalized, seeds=1, epochs=2)
    run.config["model"] = f"{code.__module__}:{code.__name__}"
    found = run_maps(run, data, ("pca",))
    assert not found.hidden
    assert found.inputs
    assert said in found.without_hidden
    assert found.without_hidden.endswith("so that its code must be another now: train the run again")
    assert stragglers_of(run, data).notes == (f"predictions are not known: {found.without_hidden}",)


def test_points_of_their_own_do_not_hinder_the_map(trained):
    _, data, _ = trained
    left_out = np.zeros((2, len(data.y_train)), bool)
    left_out[:, ::3] = True
    run = fe.train(data, seeds=2, epochs=30, exclude_per_seed=left_out)
    assert run_maps(run, data, ("pca",)).hidden


def test_one_network_of_a_run_is_shown_where_its_device_is_not(trained):
    run, data, _ = trained
    elsewhere = replace(run, config={**run.config, "device": "cuda:7"})
    assert first_network_at_end(elsewhere, data).logits.shape == (1, len(data.y_train), 10)
    with pytest.raises(FastentError, match="device='cuda:7': torch sees"):
        predictions_at_end(elsewhere, data, np.arange(3))
