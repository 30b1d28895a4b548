"""Differences of measurements: in how many of many simulations their intervals hold, and how often what is alike differs."""

import math

import numpy as np
import pytest

import fastent as fe
from fastent.errors import FastentError
from fastent.measurement.differences import difference

METRICS = ["mixing", "margins", "geometry"]
OF_ALL = ("mixing/overlap", "mixing/entropy", "margins/relative", "margins/n3", "geometry/radius")


def two_layers(rng, n, alike):
    """Three classes, and either other noise of the same distribution, or further noise."""
    labels = rng.integers(0, 3, n)
    one = rng.standard_normal((n, 4))
    other = rng.standard_normal((n, 4)) if alike else one + 0.5 * rng.standard_normal((n, 4))
    for X in (one, other):
        X[:, :3] += 1.5 * np.eye(3)[labels]
    return one.astype(np.float32), other.astype(np.float32), labels


def measured(X, labels, **options):
    return fe.measure(X, labels, metrics=METRICS, **options)


@pytest.mark.large
@pytest.mark.parametrize("alike", [False, True])
def test_intervals_of_all_points_hold_for_other_points(alike):
    rng = np.random.default_rng(1)
    found = []
    for _ in range(300):
        one, other, labels = two_layers(rng, 300, alike)
        numbers, said = difference(measured(other, labels), measured(one, labels))
        assert "; intervals are for other points of the same kind" in said
        # Those that are alike are other points in truth, and so their neighbours say.
        assert said.startswith("paired, the same labels, taken for" if alike else "paired, the same 300 points;")
        found.append([numbers[name] for name in OF_ALL])
    values, low, high = (np.array([[getattr(each, end) for each in row] for row in found]) for end in ("value", "low", "high"))
    truth = values.mean(0)  # of 300 data sets, a twentieth of an interval's length away from that of all
    held = ((low <= truth) & (truth <= high)).mean(0)
    # 92 to 98 %, and what 300 simulations leave open of that
    assert (held >= 0.92 - 0.015).all(), held
    assert (held <= 0.98 + 0.01).all(), held
    if alike:
        different = ((low > 0) | (high < 0)).mean(0)
        assert (different <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)).all(), different


@pytest.mark.large
def test_intervals_of_queries_hold_for_all_rows():
    one, other, labels = two_layers(np.random.default_rng(2), 1500, alike=False)
    whole, _ = difference(measured(other, labels), measured(one, labels))
    names = [name for name in OF_ALL if name != "geometry/radius"] + ["mixing/error", "margins/n2"]
    held = np.zeros((300, len(names)))
    for seed in range(300):
        sampled = [fe.measure(X, labels, metrics=["mixing", "margins"], queries=200, seed=seed) for X in (other, one)]
        numbers, said = difference(*sampled)
        held[seed] = [numbers[name].low <= whole[name].value <= numbers[name].high for name in names]
    assert said.startswith("paired, the same 200 queries; intervals are for all 1,500 rows")
    assert (held.mean(0) >= 0.92 - 0.015).all(), dict(zip(names, held.mean(0)))
    assert (held.mean(0) <= 0.98 + 0.01).all(), dict(zip(names, held.mean(0)))


@pytest.mark.large
@pytest.mark.parametrize(
    ("asked", "apart"),
    [(100, 0), *(pytest.param(*each, marks=pytest.mark.long) for each in ((100, 1.5), (285, 0), (285, 1.5)))],
)
def test_samples_of_other_points_are_rarely_called_different(asked, apart):
    """Two sets of points of the same kind, of whose 300 points nearly all are asked, or a third."""
    rng = np.random.default_rng(4)
    found = []
    for seed in range(300):
        sampled = []
        for own in (seed, seed + 1000):
            labels = rng.integers(0, 3, 300)
            X = rng.standard_normal((300, 4)).astype(np.float32)
            X[:, :3] += apart * np.eye(3, dtype=np.float32)[labels]
            sampled.append(measured(X, labels, queries=asked, seed=own))
        numbers, said = difference(*sampled)
        assert said == "unpaired, other points; intervals are as of independent samples"
        found.append([numbers[name] for name in OF_ALL])
    low, high = (np.array([[getattr(each, end) for each in row] for row in found]) for end in ("low", "high"))
    known = np.isfinite(low)  # of a hundred queries sometimes fewer than 20 differ in a share
    assert (known.mean(0) > 0.9).all()
    different = ((low > 0) | (high < 0)).sum(0) / known.sum(0)
    assert (different <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)).all(), different


@pytest.fixture(scope="module")
def layers():
    one, other, labels = two_layers(np.random.default_rng(3), 400, alike=False)
    return one, other, labels


def test_paired_intervals_are_shorter(layers):
    one, other, labels = layers
    paired, _ = difference(measured(other, labels), measured(one, labels))
    order = np.random.default_rng(0).permutation(400)
    unpaired, said = difference(measured(other[order], labels[order]), measured(one, labels))
    assert said == "unpaired, other points; intervals are as of independent samples"
    for name in OF_ALL:
        assert paired[name].value == pytest.approx(unpaired[name].value)
        assert paired[name].high - paired[name].low < unpaired[name].high - unpaired[name].low


def test_other_queries_of_the_same_rows(layers):
    one, other, labels = layers
    numbers, said = difference(measured(other, labels, queries=100, seed=1), measured(one, labels, queries=100))
    assert said.startswith("unpaired, other queries of the same rows")
    overlap = numbers["mixing/overlap"]
    assert overlap.low < overlap.value < overlap.high
    assert math.isnan(numbers["geometry/nc1"].low)


def test_intervals_for_other_points_do_not_shrink_as_all_are_asked(layers):
    """The finite population is that of the rows at hand; nearly all of them say as much of others as all of them do."""
    one, other, labels = layers
    order = np.random.default_rng(0).permutation(400)
    names = [name for name in OF_ALL if name != "geometry/radius"]
    errors = []
    for queries in (None, 399, 200):
        asked = measured(other[order], labels[order], queries=queries), measured(one, labels, queries=queries)
        numbers, said = difference(*asked)
        assert said.startswith("unpaired, other points")
        errors.append([numbers[name].standard_error for name in names])
    assert errors[1] == pytest.approx(errors[0], rel=0.03)
    assert (np.array(errors[2]) > np.array(errors[0])).all()


def test_statistics_whose_error_for_other_points_is_not_known_have_no_interval():
    """How points change each other's votes, and what silhouettes do, is not known: intervals of theirs ran too narrow."""
    rng = np.random.default_rng(5)
    sets = [(rng.standard_normal((1500, 3)), rng.integers(0, 3, 1500)) for _ in range(2)]
    numbers, said = difference(*(measured(*each, queries=150) for each in sets))
    assert said.startswith("unpaired, other points")
    assert math.isnan(numbers["mixing/error"].low)
    assert math.isfinite(numbers["mixing/overlap"].low)


def test_the_order_of_queries_does_not_matter(layers):
    one, other, labels = layers
    order = np.random.default_rng(0).permutation(400)
    straight, said = difference(measured(other, labels), measured(one, labels))
    for queries in ((order, order), (order, None)):
        asked = [measured(X, labels, queries=each) for X, each in zip((other, one), queries)]
        numbers, same = difference(*asked)
        assert same == said
        assert numbers.keys() == straight.keys()
        for name in numbers:
            assert numbers[name] == pytest.approx(straight[name], nan_ok=True)


def test_effects_of_the_reference_are_found_once(layers, monkeypatch):
    from fastent.measurement import differences

    asked = []
    monkeypatch.setattr(
        differences, "_effects", lambda measured, of=differences._effects: asked.append(measured) or of(measured)
    )
    one, other, labels = layers
    found = [measured(X, labels) for X in (one, other, one + other, one - other)]
    fe.compare(found, reference="1")
    assert len({id(each) for each in asked}) == len(asked) == len(found)


def test_stratified_samples_weigh_classes_by_their_shares(layers, monkeypatch):
    from fastent.measurement import plan

    monkeypatch.setattr(plan, "_ALL_PAIRS", 200)
    monkeypatch.setattr(plan, "_SAMPLE", 100)
    one, other, labels = layers
    skewed = np.where((labels == 2) & (np.arange(400) % 8 > 0), 1, labels)
    found, before = (fe.measure(X, skewed, metrics=["silhouette"]) for X in (other, one))
    assert len(found.sampled) == 100
    numbers, _ = difference(found, before)
    silhouette = numbers["silhouette/exact"]
    assert silhouette.value == pytest.approx(found.of_sampled.mean(found.silhouette.exact - before.silhouette.exact))
    assert silhouette.low < silhouette.value < silhouette.high


def test_alike_measurements_do_not_differ(layers):
    one, _, labels = layers
    numbers, _ = difference(measured(one, labels), measured(one, labels))
    assert {each.value for name, each in numbers.items() if not math.isnan(each.value)} == {0.0}
    assert all(math.isnan(each.low) for each in numbers.values())  # too few points in which they differ


@pytest.mark.parametrize("labels", [np.arange(8) % 2, np.array([0] * 7 + [1]), np.array(["a", "é"] * 4)])
def test_small_data_have_no_intervals(labels):
    X = np.arange(16.0).reshape(8, 2)
    numbers, _ = difference(fe.measure(X, labels, k=3), fe.measure(X[:, :1], labels, k=3))
    assert all(math.isnan(each.low) for each in numbers.values())


def test_a_comparison_shows_them(layers, tmp_path):
    import rich.console

    one, other, labels = layers
    table = fe.compare([measured(one, labels), measured(other, labels)], ["first", "<b>"], reference="<b>")
    assert table.reference == "<b>"
    found = table.differences["first"]["mixing/overlap"]
    assert found.low > 0
    text = f"({found.low:.4f} to {found.high:.4f})"
    console = rich.console.Console(record=True, width=200)
    console.print(table)
    fe.write_report(table, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    for shown in (repr(table), table._repr_html_(), console.export_text(), page):
        assert f"+{found.value:.4f} * {text}" in shown
        assert "each by itself" in " ".join(shown.split())
    assert "<b>" not in page.replace("<b>{", "")[page.index("<main>") : page.index("<script")]
    assert table.difference_table()["first low"].to_pylist()[0] == found.low
    _, axes = table.plot("mixing/overlap", differences=True)
    assert axes.get_ylabel() == "mixing/overlap, difference from <b>"
    with pytest.raises(FastentError, match="reference='third'"):
        fe.compare([measured(one, labels)], ["first"], reference="third")
    assert fe.compare([measured(one, labels)]).differences == {}
