import json
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from typer.testing import CliRunner

import fastent as fe
from fastent.activations import trajectory as module
from fastent.cli.checkpoints import checkpoint_files, checkpoint_names
from fastent.cli.main import app
from fastent.errors import FastentError
from tests.report.test_report import payload

STEPS = (1, 2, 10, 20)


def network(seed):
    torch.manual_seed(seed)
    return torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.Tanh(), torch.nn.Linear(5, 3))


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    folder = tmp_path_factory.mktemp("captured")
    torch.manual_seed(9)
    X, y = torch.randn(60, 6), torch.arange(60) % 3
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(X, y), batch_size=20)
    for step in STEPS:
        fe.capture(network(step), loader, ["0", "1"], folder / f"step{step}", dtype="float32")
    return folder, loader


def test_each_layer_of_each_checkpoint_is_what_measure_finds(captured):
    folder, _ = captured
    found = fe.trajectory(folder, metrics=["mixing", "geometry"], k=4)
    assert found.names == ("step1", "step2", "step10", "step20")
    assert found.step.tolist() == list(STEPS)
    for e, name in enumerate(found.names):
        for i, layer in enumerate(("0", "1")):
            X, labels = fe.open(f"{folder / name}:{layer}"), np.arange(60) % 3
            alone = fe.measure(X, labels, metrics=["mixing", "geometry"], k=4).summary()
            assert {statistic: values[e, i] for statistic, values in found.statistics.items()} == pytest.approx(
                alone, nan_ok=True
            )
            np.testing.assert_allclose(found.radius[e, i], fe.geometry(X, labels).radius, rtol=1e-9)
    assert found.inversions()[0, 0].reason.startswith("too few records (4 of")
    assert np.isnan(found.low["mixing/overlap"]).all()
    sampled = fe.trajectory(folder, metrics="mixing", k=4, queries=20, layers=["1"])
    assert (sampled.low["mixing/overlap"] < sampled.high["mixing/overlap"]).all()


def test_it_resumes_by_layer_and_checkpoint(captured, tmp_path, monkeypatch):
    folder, _ = captured
    measured, calls = module._measured, []

    def stops(*arguments):
        if len(calls) == 5:
            raise KeyboardInterrupt
        calls.append(arguments)
        return measured(*arguments)

    monkeypatch.setattr(module, "_measured", stops)
    with pytest.raises(KeyboardInterrupt):
        fe.trajectory(folder, metrics="geometry", out=tmp_path)
    calls.clear()
    found = fe.trajectory(folder, metrics="geometry", out=tmp_path)
    assert len(calls) == 3
    monkeypatch.setattr(module, "_measured", measured)
    whole = fe.trajectory(folder, metrics="geometry")
    for name, values in whole.statistics.items():
        np.testing.assert_array_equal(found.statistics[name], values)
    monkeypatch.setattr(module, "_measured", lambda *_: pytest.fail("measured again"))
    fe.trajectory(folder, metrics="geometry", out=tmp_path)


def test_all_and_metrics_by_name_go_together_and_may_be_given_once(captured):
    folder, _ = captured
    found = fe.trajectory(folder, metrics=["all", "capacity"], layers="1", k=4)
    assert {"capacity/capacity", "mixing/overlap", "dimension/twonn"} <= found.statistics.keys()
    given = fe.trajectory(folder, metrics=(name for name in ("mixing", "geometry")), k=4)
    assert given.config == fe.trajectory(folder, metrics=["mixing", "geometry"], k=4).config


def test_a_metric_that_does_not_exist_is_refused_before_any_layer_is_measured(captured, monkeypatch):
    monkeypatch.setattr(module, "_measured", lambda *_: pytest.fail("measured"))
    for strange in ("nothing", ["mixing", "nothing"], 4):
        with pytest.raises(FastentError, match="choose 'all' or some of"):
            fe.trajectory(captured[0], metrics=strange)


def test_checkpoints_without_a_number_are_where_the_user_puts_them(captured, tmp_path):
    folder, _ = captured
    for name in ("run7-step2", "run7-step10", "run7-final"):
        shutil.copytree(folder / "step1", tmp_path / name)
    with pytest.raises(FastentError, match="holds 'run7-final' beside 'run7-step2', and no number says where it belongs"):
        fe.trajectory(tmp_path, metrics="geometry")
    names = ["run7-step2", "run7-step10", "run7-final"]
    places = [tmp_path / name for name in names]
    assert fe.trajectory(places, metrics="geometry").names == tuple(names)
    with pytest.raises(FastentError, match="'run7-step10' comes before 'run7-step2', and 'run7-final' has no number"):
        fe.trajectory([places[i] for i in (2, 1, 0)], metrics="geometry")
    said = CliRunner().invoke(app, ["trajectory", *map(str, places), "--metrics", "geometry"])
    assert "'run7-final' has no number that says where it belongs: the order is as given, run7-step2, run7-st" in said.stderr
    found = fe.trajectory(places[1::-1], metrics="geometry")
    assert (found.names, found.step.tolist()) == (("run7-step2", "run7-step10"), [2, 10])


@pytest.mark.parametrize(
    ("names", "without"),
    [
        (("epoch1", "epoch10", "epoch1.5"), []),
        (("resnet18-best", "resnet18-epoch1"), ["resnet18-best"]),
        (("init", "2", "final"), ["init", "final"]),
        (("final",), []),
    ],
)
def test_which_names_have_a_number_of_their_own(names, without):
    assert module.without_number(names) == without


def test_rows_that_look_alike_when_printed_are_measured_each(tmp_path):
    X, y = torch.randn(3000, 4), torch.arange(3000) % 2
    fe.capture(torch.nn.Identity(), [(X, y)], [""], tmp_path / "step1")
    first, second = np.r_[0:5, 10:1500, 2995:3000], np.r_[0:5, 1000:2490, 2995:3000]
    kept, alone = [
        [
            fe.trajectory(tmp_path / "step1", metrics="mixing", k=3, queries=rows, **out).statistics["mixing/overlap"].item()
            for rows in (first, second, first.tolist())
        ]
        for out in ({"out": tmp_path / "out"}, {})
    ]
    assert kept == alone
    assert len(list((tmp_path / "out" / "parts").iterdir())) == 2


@pytest.mark.parametrize("queries", [np.arange(20), torch.arange(20), list(range(20)), np.int64(20), None])
def test_every_form_of_queries_can_be_saved(captured, queries, tmp_path):
    found = fe.trajectory(captured[0], metrics="mixing", k=np.int64(4), queries=queries, out=tmp_path)
    found.save(tmp_path)
    stored = json.loads((tmp_path / "config.json").read_text())
    rows = {None: None, 0: 20, 1: list(range(20))}[None if queries is None else np.ndim(queries)]
    assert (stored["queries"], stored["k"]) == (rows, 4)


def test_no_map_is_drawn_of_any_cell(captured, monkeypatch):
    monkeypatch.setattr("fastent.measurement.measure.point_maps", lambda *_, **__: pytest.fail("drew a map"))
    assert fe.trajectory(captured[0], metrics="all", k=4, layers=["1"], map="none").last is None


def test_the_last_layer_of_the_last_checkpoint_is_mapped(captured, tmp_path):
    found = fe.trajectory(captured[0], metrics="geometry", k=100)  # more than there are rows, which geometry does not mind
    X = fe.open(f"{captured[0] / 'step20'}:1")
    expected = fe.map_points(X, np.arange(60) % 3, k=59)
    assert found.last.k == 59
    np.testing.assert_array_equal(found.last.maps["pca"].coordinates, expected.coordinates)
    fe.write_report(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    data = payload(page)["map"]
    assert data["codes"] == (np.arange(60) % 3).tolist()
    assert data["rings"] == np.flatnonzero(found.last.outvoted).tolist()
    assert "Layer 1 at step20, PCA: " in page


def test_a_layer_that_has_collapsed_has_no_dimension(tmp_path):
    X, y = torch.randn(60, 4), torch.arange(60) % 2
    for step, model in ((1, torch.nn.Identity()), (2, torch.nn.Threshold(1e9, 0.0))):
        fe.capture(model, [(X, y)], [""], tmp_path / f"step{step}", dtype="float32")
    found = fe.trajectory(tmp_path)
    known = {name: np.isfinite(values[:, 0]).tolist() for name, values in found.statistics.items()}
    assert known["dimension/twonn"] == [True, False]
    assert known["mixing/overlap"] == [True, True]
    fe.write_report(found, tmp_path / "page.html")
    assert "Not known in 1 of 2 layers of checkpoints, where rows repeat" in (tmp_path / "page.html").read_text("utf-8")
    with pytest.raises(FastentError, match="no layer of any checkpoint has 'dimension'; leave it out"):
        fe.trajectory(tmp_path / "step2")
    with pytest.raises(FastentError, match="hold fewer than two rows that differ"):
        fe.trajectory(tmp_path / "step2", metrics=["dimension"])


def test_few_rows_have_no_map(tmp_path):
    fe.capture(torch.nn.Identity(), [(torch.randn(3, 4), torch.tensor([0, 1, 1]))], [""], tmp_path / "step1")
    found = fe.trajectory(tmp_path / "step1", metrics="geometry")
    assert found.last is None
    fe.write_report(found, tmp_path / "page.html")


def test_what_does_not_belong_together_is_refused(captured, tmp_path):
    folder, loader = captured
    fe.capture(network(1), list(loader)[:2], ["0", "1"], tmp_path / "fewer")
    fe.capture(network(1), [x for x, _ in loader], ["0"], tmp_path / "unlabelled")
    for captures, options, complaint in (
        ([folder / "step1", tmp_path / "fewer"], {}, "are of other rows or labels"),
        ([tmp_path / "unlabelled"], {}, "was captured without labels: pass labels"),
        ([folder / "step1"], {"layers": ["9"]}, "has no layer '9'"),
        ([folder / "step1"], {"layers": "01"}, "has no layer '01'"),
        (tmp_path / "none", {}, "none"),
        ([], {}, "no capture is there"),
        (captured[0], {"metrics": "nothing"}, "choose 'all' or some of"),
        ([folder / "step1", folder / "step1"], {}, "two have the same name"),
        (captured[0], {"maps": "umap"}, "maps='umap': the options are k, queries"),
        (captured[0], {"map": "mds"}, "map='mds': choose one of"),
    ):
        with pytest.raises(FastentError, match=complaint):
            fe.trajectory(captures, **options)


def test_files_and_the_page(captured, tmp_path):
    done = CliRunner().invoke(
        app,
        ["trajectory", str(captured[0]), "--metrics", "geometry,mixing", "--out", str(tmp_path / "t"), "--map", "none"],
    )
    assert done.exit_code == 0, done.output
    assert "layer 1: 0 of 3 classes have an inversion; too few records (4 of at least " in done.output
    summary = json.loads((tmp_path / "t" / "summary.json").read_text())
    assert summary["steps"] == list(STEPS)
    table = pq.read_table(tmp_path / "t" / "curves.parquet")
    assert table.num_rows == 4 * 2 * 3
    data = payload((tmp_path / "t" / "report.html").read_text(encoding="utf-8"))
    assert (data["unit"], data["names"]) == ("checkpoint", ["step1", "step2", "step10", "step20"])
    nc1 = next(each for each in data["statistics"] if each["name"] == "geometry: nc1")
    assert len(nc1["values"]) == 2
    assert "map" not in data


def test_a_map_without_a_report_is_refused(captured):
    done = CliRunner().invoke(app, ["trajectory", str(captured[0]), "--metrics", "geometry", "--map", "pca"])
    assert done.exit_code == 2
    assert "--map pca: that is for what is written to a folder: name one with --out" in done.output


def test_checkpoints_are_in_natural_order_with_names_that_tell_them_apart(tmp_path):
    for name in ("run-10/model.pt", "run-2/model.pt", "run-1/model.pt"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    files = checkpoint_files([str(tmp_path / "*" / "*.pt"), str(tmp_path / "run-2" / "model.pt")])
    assert checkpoint_names(files) == ["run-1-model", "run-2-model", "run-10-model"]
    with pytest.raises(FastentError, match="matches no file"):
        checkpoint_files([str(tmp_path / "*.bin")])


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (("epoch=1-step=200", "epoch=2-step=400"), [1, 2]),
        (("layer3-a", "layer3-b"), [1, 2]),
        (("best", "epoch1"), [1, 2]),
        (("v2-e5", "v2-e7"), [5, 7]),
    ],
)
def test_steps_are_the_first_number_that_ascends(names, steps):
    assert module._steps(names).tolist() == steps


def test_capture_takes_many_checkpoints(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "net_of_checkpoints.py").write_text(
        "from tests.activations.test_trajectory import network\ndef make():\n    return network(0)\n"
    )
    np.save("X.npy", np.random.default_rng(0).standard_normal((30, 6)).astype(np.float32))
    np.save("y.npy", np.arange(30) % 3)
    for step, wrap in ((2, None), (10, "state_dict"), (1, "model")):
        state = network(step).state_dict()
        torch.save(state if wrap is None else {wrap: state, "epoch": step}, f"e{step}.pt")
    command = [
        "capture",
        "--model",
        "net_of_checkpoints:make",
        "--checkpoint",
        "*.pt",
        "--data",
        "X.npy",
        "--labels",
        "y.npy",
        "--layers",
        "1",
        "--out",
        "acts",
    ]
    for _ in range(2):  # the second time everything is there
        done = CliRunner().invoke(app, [*command, "--json"])
        assert done.exit_code == 0, done.output
    stores = json.loads(done.stdout)["checkpoints"]
    assert [store["folder"] for store in stores] == ["acts/e1", "acts/e2", "acts/e10"]
    for step in (1, 2, 10):
        alone = network(step)[:2](torch.from_numpy(np.load("X.npy"))).detach().half().numpy()
        np.testing.assert_allclose(fe.open(f"acts/e{step}:1")[:], alone, rtol=2e-3)
    both = CliRunner().invoke(app, [*command, "--weights", "e1.pt"])
    assert both.exit_code == 2
