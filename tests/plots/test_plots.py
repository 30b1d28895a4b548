"""Pictures of results: what is drawn is what was found, on axes of one's own or new ones, and files keep their text."""

import re
from dataclasses import replace

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib import pyplot

import fastent as fe
from fastent.experiments._dynamics import Dynamics, _steadiness
from fastent.experiments._generalization import Generalization, _peaks
from fastent.experiments._pruning import Arm, Pruning
from fastent.experiments._stability import Stability
from fastent.experiments.peak import find_peak
from fastent.statistics.intervals import Estimate
from fastent.training.run import Run
from tests.report.test_report import EVIL, made_up_run

CONFIG = {"data": "made up", "seeds": 3, "training_points": 200, "noise": 1.0}
ERRORS = np.array([0.5, 0.2, 0.1, 0.02])


@pytest.fixture(autouse=True)
def _figures_are_closed():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def points():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 240)
    return rng.standard_normal((240, 5)) + 3 * np.eye(3, 5)[y], np.array(["a", "$b$", EVIL])[y]


@pytest.fixture(scope="module")
def measured(points):
    return fe.measure(*points, metrics=["mixing", "margins", "geometry", "dimension", "silhouette"], queries=100)


@pytest.fixture
def run():
    return made_up_run(seeds=3, layers=2, config={"classes": "parity"})


def estimate(value):
    return Estimate(value, 0.01, value - 0.02, value + 0.02)


def pruned():
    epoch = np.arange(401)
    arms = [
        Arm(name, 200, 1.0, (0.8, 1.0), estimate(0.1), estimate(0.2 - 0.05 * i), "", epoch, 0.6 + 0.001 * abs(epoch - 100.0))
        for i, name in enumerate(("all points", "without stragglers", "without random points", "without highest loss", "half"))
    ]
    return Pruning(CONFIG, arms, np.arange(20))


def generalized():
    rng = np.random.default_rng(0)
    of_kinds = [{kind: 0.05 + 0.01 * rng.random((4, 3)) for kind in ("clean", "noisy")} for _ in range(2)]
    unpruned = {kind: np.full(3, 0.05) for kind in ("clean", "noisy")}
    shares = np.repeat(ERRORS[:, None], 3, axis=1)
    peaks = _peaks(*of_kinds, shares, 0)
    return Generalization(CONFIG, np.array([5, 10, 50, 90]), shares, *of_kinds, unpruned, peaks, estimate(0.1), "")


def agreed():
    common = np.random.default_rng(0).integers(1, 9, (6, 4))
    z = [Estimate(*[np.nan] * 4), *map(estimate, (2.0, 5.0, 3.0))]
    kappa = common / 10
    peak = find_peak(kappa, ERRORS)
    return Stability(
        config=CONFIG,
        times=np.array([5, 10, 50, 90]),
        train_error=ERRORS,
        common=common,
        expected=common / 3.0,
        null_variance=common / 3.0,
        kappa=kappa,
        kappa_mean=[estimate(0.5)] * 4,
        z=z,
        z_null=z,
        size_spread=np.ones(4),
        peaks={"kappa": peak, "z": peak},
        critical_error=estimate(0.1),
        reasons="",
    )


def drawn(axes):
    return {line.get_label(): line for line in axes.lines if not line.get_label().startswith("_")}


def test_the_radii_of_a_run_and_its_inversions(run):
    figure, axes = run.plot()
    assert figure is axes.get_figure()
    assert list(drawn(axes)) == ["even", "odd", "inversion"]
    np.testing.assert_allclose(drawn(axes)["even"].get_ydata(), run.radius[:, 1:, -1, 0].mean(0))
    dots = [line.get_xdata() for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    assert [list(each) for each in dots] == [[i.epoch for i in run.inversion[:, -1, c]] for c in range(2)]
    figure.canvas.draw()
    assert axes.get_xscale() == "log"


@pytest.mark.parametrize("options", [{"against": "train_error"}, {"kind": "distance", "layer": 0}, {"kind": "error"}])
def test_other_curves_of_a_run(run, options):
    figure, axes = run.plot(**options)
    figure.canvas.draw()
    assert axes.get_xlabel() == ("training error" if "against" in options else "epoch")
    assert ("hidden layer 1 of 2" in axes.get_title()) == ("layer" in options)


def test_many_classes_have_a_band_and_a_legend_beside_the_axes():
    many = made_up_run(seeds=5, classes=tuple(range(10)))
    _, axes = many.plot()
    assert len(axes.collections) == 10
    assert len(axes.get_legend().get_texts()) == 11
    _, axes = many.plot("distance")
    assert len(drawn(axes)) == 10  # each class to the others
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Run, "inversions", None)  # of pairs that are not drawn
        many.plot("distance")
    _, axes = made_up_run(seeds=1, classes=tuple(range(40))).plot()
    assert axes.get_legend() is None


def test_records_within_epochs_and_a_class_without_points(run):
    short = replace(run, epoch=run.epoch / 40, test_epoch=run.test_epoch / 40)
    short.radius[:, :, :, 1] = np.nan
    figure, axes = short.plot()
    figure.canvas.draw()
    assert axes.get_xscale() == "linear"
    assert len(drawn(axes)["even"].get_xdata()) == 400
    assert len(drawn(axes)["odd"].get_xdata()) == 0


def test_one_class_of_many_without_points_takes_no_distance_from_the_others():
    run = made_up_run(seeds=2, classes=tuple(range(6)))
    run.distance[:, :, :, 3] = run.distance[:, :, :, :, 3] = np.nan
    _, axes = run.plot("distance")
    lines = drawn(axes)
    known = run.distance[:, 1:, -1, 0][:, :, [1, 2, 4, 5]].mean((0, 2))
    np.testing.assert_allclose(lines["class 0 to others"].get_ydata(), known)
    assert len(lines["class 3 to others"].get_xdata()) == 0


def test_a_run_that_does_not_turn_and_one_that_is_short():
    _, axes = made_up_run(turns=False).plot()
    assert "inversion" not in drawn(axes)
    figure, axes = made_up_run(epochs=400, trained=3).plot(against="train_error")
    figure.canvas.draw()


@pytest.mark.parametrize("kind", ["matrix", "margins", "distance", "collapse", "dimension"])
def test_every_view_of_a_measurement(measured, kind):
    figure, axes = measured.plot(kind)
    figure.canvas.draw()
    if kind in ("matrix", "margins", "distance", "collapse"):
        names = [label.get_text().replace(r"\$", "$") for label in axes.get_yticklabels()]
        assert names == ["$b$", f"{EVIL[:15]}\u2026", "a"]
    if kind in ("matrix", "distance"):
        shown = axes.images[0].get_array()
        expected = measured.mixing.matrix if kind == "matrix" else np.where(np.eye(3) > 0, np.nan, measured.geometry.distance)
        np.testing.assert_allclose(np.ma.filled(shown, np.nan), expected)
    if kind == "matrix":
        bar = figure.axes[1]
        assert bar.lines[-1].get_ydata()[0] == pytest.approx(measured.mixing.chance)
    if kind == "margins":
        margins, own = measured.margins, measured.labels[measured.queries]
        medians = [line.get_xdata()[0] for line in axes.lines if line.get_marker() == "o"]
        assert medians == [pytest.approx(np.median(margins.relative[own == c])) for c in measured.classes]


def test_a_view_that_was_not_measured(points):
    found = fe.measure(*points, metrics="geometry")
    with pytest.raises(
        fe.FastentError, match=r"kind='matrix' was not measured: call fe\.measure with 'mixing' among the metrics"
    ):
        found.plot()
    with pytest.raises(fe.FastentError, match="kind='pie': choose one of 'matrix', 'margins'"):
        found.plot("pie")


def test_parts_draw_themselves(points):
    X, y = points
    near = fe.neighbors(X, 4)
    assert fe.margins(X, y).plot()[1].get_yticklabels()[0].get_text() == "all points"
    with pytest.raises(fe.FastentError, match="labels has 5 entries, the margins are of row 239"):
        fe.margins(X, y).plot(y[:5])
    with pytest.raises(fe.FastentError, match=r"call fe\.mixing with matrix"):
        fe.mixing(near, y, matrix=False).plot()
    assert len(fe.intrinsic_dimension(near, "twonn", y).plot()[1].lines) == 2
    with pytest.raises(fe.FastentError, match="pass labels"):
        fe.intrinsic_dimension(near).plot()
    many = np.arange(240) % 60
    figure, axes = fe.margins(X, many).plot(many)
    figure.canvas.draw()
    assert "the 25 worst of 60 classes" in axes.get_title()
    assert len(axes.get_yticklabels()) == 25


def test_a_collapsed_pair_of_classes_has_no_colour():
    found = fe.geometry([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], [0, 0, 1, 1])
    figure, axes = found.plot("collapse")
    figure.canvas.draw()
    assert np.isnan(np.ma.filled(axes.images[0].get_array(), np.nan)).all()


def test_a_comparison_draws_what_shares_a_scale(measured, points):
    both = fe.compare([measured, fe.measure(*points, metrics=["mixing"])], ["fc1", "fc2"])
    _, axes = both.plot()
    assert axes.get_legend_handles_labels()[1] == ["mixing/overlap", "margins/relative", "silhouette/exact"]
    assert both.plot("geometry/fisher")[1].get_ylabel() == "geometry/fisher"
    with pytest.raises(fe.FastentError, match=r"statistics='nonsense': choose some of 'mixing/overlap'"):
        both.plot("nonsense")


def test_what_a_probe_recorded():
    torch.manual_seed(0)
    X, y = torch.randn(40, 4), torch.arange(40) % 2
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    probe = fe.Probe(model, [(X, y)], ["0", "2"])
    with pytest.raises(fe.FastentError, match="the probe has recorded nothing so far"):
        probe.records.plot()
    for step in range(4):
        probe(step)
        torch.nn.init.normal_(model[0].weight)
    records = probe.records
    _, axes = records.plot(layer="0")
    np.testing.assert_allclose(drawn(axes)["class 1"].get_ydata(), records.radius[1:, 0, 1])
    assert list(drawn(records.plot("fisher")[1])) == ["0", "2"]
    assert len(drawn(records.plot("fisher", layer="2")[1])) == 1
    for kind in ("distance", "error", "loss"):
        records.plot(kind)
    with pytest.raises(fe.FastentError, match="kind='mixing' was not recorded: ask for it when the probe is made"):
        records.plot("mixing")
    with pytest.raises(fe.FastentError, match="layer='1': choose one of '0', '2'"):
        records.plot(layer="1")
    assert records._repr_html_().count("<tr>") == 5  # two classes in two layers, below the headings


def test_the_probes_own_options_and_a_layer_without_a_name():
    torch.manual_seed(0)
    X, y = torch.randn(60, 4), torch.arange(60) % 2
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2))
    probe = fe.Probe(model, [(X, y)], ["", "1"], classes=["even", "odd"])
    for step in range(12):
        torch.nn.init.normal_(model[0].weight, std=1 + abs(step - 6))
        probe(step)
    records = probe.records
    _, axes = records.plot(layer="")
    assert axes.get_title() == "the model"
    np.testing.assert_allclose(drawn(axes)["odd"].get_ydata(), records.radius[1:, 0, 1])
    assert {turn.reason for turn in records.inversions(burn_in=11).flat} == {
        "too few records (1 of at least 10 past burn_in=11)"
    }
    assert "inversion" not in drawn(records.plot(burn_in=11)[1])
    with pytest.raises(fe.FastentError, match="burn_in=8 is for inversions, of which kind='error' has none: leave it out"):
        records.plot("error", burn_in=8)
    found = np.zeros(60, bool)
    for c, turn in enumerate(records.inversions()[0]):
        if turn:
            found |= records.misclassified(turn.epoch) & (records.codes == c)
    np.testing.assert_array_equal(records.stragglers(layer=""), found)


@pytest.mark.parametrize("result", [pruned, generalized, agreed])
def test_data_whose_name_could_be_a_formula(result):
    named = replace(result(), config=CONFIG | {"data": r"$\frac$"})
    figure, axes = named.plot()
    figure.canvas.draw()
    assert axes.get_title().startswith(r"\$\frac\$")


def test_classes_of_an_experiment_are_called_as_in_its_run(run):
    estimates = np.empty((2, 2), object)
    for place in np.ndindex(2, 2):
        estimates[place] = estimate(0.1)
    found = Dynamics(
        CONFIG,
        run,
        estimates,
        estimates,
        np.zeros((2, 2)),
        estimates[:, 0],
        np.ones((2, 2)),
        estimates,
        [_steadiness(run, layer) for layer in (0, 1)],
    )
    assert list(drawn(found.plot()[1])) == ["even", "odd", "inversion"]
    assert set(found.numbers()["layer 1"]) == {"variation_of_mean", "steadiness", "even", "odd"}


def test_axes_of_ones_own(run, measured):
    figure, axes = pyplot.subplots(1, 3)
    assert run.plot(ax=axes[0]) == (figure, axes[0])
    assert measured.plot("matrix", ax=axes[1])[1] is axes[1]
    assert pruned().plot(ax=axes[2])[0] is figure
    with pytest.raises(fe.FastentError, match="ax is ndarray: pass one Axes"):
        run.plot(ax=axes)


def test_text_in_files_stays_text_and_settings_stay_as_they_were(run, tmp_path):
    before = dict(matplotlib.rcParams)
    figure, axes = run.plot()
    axes.set_title("eps* <of> these & those")
    figure.savefig(tmp_path / "run.svg")
    figure.savefig(tmp_path / "run.pdf")
    assert dict(matplotlib.rcParams) == before
    picture = (tmp_path / "run.svg").read_text()
    assert re.search(r"<text [^>]*>eps\* &lt;of&gt; these &amp; those</text>", picture)
    assert b"/Type3" not in (tmp_path / "run.pdf").read_bytes()


def test_unknown_kinds_of_a_run(run):
    with pytest.raises(fe.FastentError, match="kind='loss': choose one of 'radius', 'distance', 'error'"):
        run.plot("loss")
    with pytest.raises(fe.FastentError, match="layer=2: a whole number from -2 to 1 is needed"):
        run.plot(layer=2)
    with pytest.raises(fe.FastentError, match="errors are drawn against='epoch'"):
        run.plot("error", against="train_error")


@pytest.mark.large
def test_the_papers_figures():
    run = made_up_run(seeds=2)
    for draw, result, panels in (
        (fe.figures.inversion, run, 3),
        (fe.figures.inversion, Dynamics(CONFIG, run, *[None] * 7), 3),
        (fe.figures.pruning, pruned(), 2),
        (fe.figures.generalization, generalized(), 2),
        (fe.figures.stability, agreed(), 2),
    ):
        figure, axes = draw(result)
        figure.canvas.draw()
        assert [panel.get_title(loc="left") for panel in axes] == list("abc")[:panels]


@pytest.mark.large
def test_the_papers_figures_from_data():
    figure, axes = fe.figures.stability("digits", pairs=3, times=[2, 4, 6], seeds=1, epochs=6, threads=1)
    figure.canvas.draw()
    assert [panel.get_ylabel() for panel in axes] == ["Cohen's kappa", "z; points"]


def test_tables_in_notebooks_are_small_and_escaped(run, measured, points):
    both = fe.compare([measured, measured], ["fc1", EVIL])
    evil = made_up_run(config={"data": EVIL}, turns=False)
    for result, said in (
        (run, '<td style="text-align:right">3/3</td>'),
        (evil, "No inversion in 2 of 2 classes: radii were still falling at the last record."),
        (measured, "mixing/overlap"),
        (both, "silhouette/exact"),
        (pruned(), "Claim: The inversion"),
    ):
        table = result._repr_html_()
        assert "<script" not in table
        assert said in table
        assert len(table) < 20_000
        assert table.count("<tr>") == table.count("</tr>") >= 3


def test_classes_of_one_point_have_no_margins_to_draw():
    alone = fe.margins(np.random.default_rng(0).normal(size=(20, 3)), np.arange(20))
    with pytest.raises(fe.FastentError, match="no point has another of its class"):
        alone.plot()
