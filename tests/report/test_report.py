import base64
import html
import io
import json
import re
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

import fastent as fe
from fastent.errors import FastentError
from fastent.report.measurement import write_measurement_report
from fastent.report.page import percent
from fastent.report.run import class_rows, write_run_report
from fastent.report.run_words import answers, description, headline
from fastent.report.stragglers import points_near
from fastent.statistics.inversion import fitted_curve
from fastent.training.run import Run
from fastent.training.straggler_list import hardness
from fastent.training.tables import readable_rows, summary, turning_text, without_inversion
from tests.statistics.test_silhouette import clusters

EVIL = "<script>alert(1)</script>"


def made_up_run(
    seeds=10, classes=(0, 1), layers=1, epochs=400, turns=True, points=200, config=None, trained=None, turn_at=100
) -> Run:
    """Radii fall until epoch `turn_at`, an epoch later for each further seed, and rise again; errors fall throughout.

    `turns` says whether they rise again, of all or of each (class, seed).
    """
    rng = np.random.default_rng(0)
    trained = epochs if trained is None else trained
    epoch = np.arange(trained + 1)
    bottom = turn_at + np.arange(seeds)[:, None, None]
    turns = np.broadcast_to(turns, (len(classes), seeds)).T[:, None, :]
    t = epoch[None, :, None]
    falling = 0.6 + 0.3 * np.exp(-t / bottom)
    rising = 0.002 * np.maximum(t - bottom, 0)
    radius = np.where(turns, falling + rising, falling) + 0.001 * np.arange(len(classes))
    radius = np.repeat(radius[:, :, None], layers, axis=2)
    distance = (1 - radius)[..., None] + np.zeros(len(classes))
    distance[..., np.arange(len(classes)), np.arange(len(classes))] = 0
    # The last tenth of the points is learned late, at epochs that differ between the seeds; the rest soon.
    learned = np.where(np.arange(points) < 0.9 * points, 10, 150 + rng.integers(0, 200, (seeds, points)))
    wrong = epoch[None, :, None] < learned[:, None, :]
    codes = np.arange(points) % len(classes)
    test_epoch = epoch[::10]
    return Run(
        config={"data": "made up", "epochs": epochs, "seed": 0, "hidden": [20] * layers, **(config or {})},
        classes=np.array(classes),
        index=np.arange(points) * 3,
        labels=np.array(classes)[codes],
        codes=codes,
        epoch=epoch,
        train_error=wrong.mean(2),
        test_epoch=test_epoch,
        test_error=wrong.mean(2)[:, test_epoch] + 0.02,
        radius=radius,
        distance=distance,
        wrong=np.packbits(wrong, axis=2),
        seconds=12.3,
        state={},
    )


def written(tmp_path, run, **options) -> str:
    write_run_report(run, tmp_path / "report.html", **options)
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def payload(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.S)[1])


def said(run: Run) -> str:
    return str(headline(run)).replace("\u00a0", " ")


def test_the_page_holds_the_numbers_of_the_run(tmp_path):
    run = made_up_run()
    data = payload(written(tmp_path, run))
    drawn = np.searchsorted(run.epoch, data["epoch"])
    assert data["epoch"][0] == 0
    assert data["epoch"][-1] == 400
    np.testing.assert_allclose(data["radius"][0][1]["mean"], run.radius[:, drawn, 0, 1].mean(0), rtol=1e-4)
    np.testing.assert_allclose(data["radius"][0][1]["seeds"], run.radius[:, drawn, 0, 1], rtol=1e-4)
    np.testing.assert_allclose(data["distance"][0][0]["mean"], run.distance[:, drawn, 0, 0, 1].mean(0), rtol=1e-4)
    np.testing.assert_allclose(data["train_error"]["seeds"], run.train_error[:, drawn], rtol=1e-4)
    np.testing.assert_allclose(data["test_error"]["mean"], run.test_error.mean(0), rtol=1e-4)
    marks = data["inversion"][0][1]
    assert marks["epoch"] == [run.inversion[s, 0, 1].epoch for s in range(10)]
    np.testing.assert_allclose(marks["error"], [run.inversion[s, 0, 1].train_error for s in range(10)], rtol=1e-4)


def test_long_runs_keep_their_ends_and_their_turns(tmp_path):
    run = made_up_run(seeds=3, epochs=5000, turn_at=1234)
    data = payload(written(tmp_path, run))
    assert len(data["epoch"]) <= 400
    assert {0, 5000, *data["inversion"][0][0]["epoch"]} <= set(data["epoch"])
    assert data["epoch"] == sorted(set(data["epoch"]))


def test_headline_of_a_run_whose_classes_turn_together():
    run = made_up_run(turn_at=100)
    summary = run.inversion_summary()[0]
    low, high = summary.interval
    assert said(run) == (
        f"Classes turned at epoch {summary.epoch:.0f}, at {100 * summary.train_error:.1f} % training error. "
        f"95 % interval {100 * low:.1f}\u2013{100 * high:.1f} %, inversions in 10 of 10 seeds. "
        "Stragglers: 20 of 200 points, misclassified at the inversion of their class in at least half of the seeds."
    )


def test_headline_without_an_inversion():
    run = made_up_run(turns=False)
    assert said(run) == (
        "No inversion in 400 epochs: the radius was still falling at the last record in 10 of 10 seeds. "
        "Train longer to see whether the radii turn."
    )


def test_headline_of_one_seed_claims_no_interval():
    text = said(made_up_run(seeds=1))
    assert text.startswith("Classes turned at epoch ")
    assert "interval" not in text
    assert "seed" not in text
    assert "400 epochs: the radius was still falling at the last record." in said(made_up_run(seeds=1, turns=False))


def test_headline_of_classes_that_differ():
    turns = np.ones((2, 10), bool)
    turns[0, 6:] = False
    turns[1] = False
    run = made_up_run(turns=turns, config={"classes": "parity"})
    text = said(run)
    assert text.startswith("The even class turned at epoch ")
    assert "; the odd class has no inversion." in text
    assert "in 6 of 10 seeds; no inversion: the radius was still falling at the last record in 4 of 10 seeds." in text
    assert "The odd class: no inversion: the radius was still falling at the last record in 10 of 10 seeds." in text


def test_headline_of_many_classes_gives_ranges():
    turns = np.ones((10, 4), bool)
    turns[7] = False
    text = said(made_up_run(seeds=4, classes=tuple(range(10)), turns=turns))
    assert text.startswith("9 of 10 classes turned ")
    assert "No inversion in class 7." in text


def test_classes_that_share_a_reason_share_a_sentence(tmp_path):
    run = made_up_run(seeds=4, classes=tuple(range(10)), turns=False)
    assert without_inversion(run) == ["No inversion in 10 of 10 classes: radii were still falling at the last record."]
    assert written(tmp_path, run).count("radii were still falling at the last record") == 1
    turns = np.ones((10, 4), bool)
    turns[[3, 5], :2] = False
    turns[5, 2] = False
    sentence = "No inversion in 2 of 10 classes (3 and 5) in 2 to 3 of 4 seeds: radii were still falling at the last record."
    assert without_inversion(made_up_run(seeds=4, classes=tuple(range(10)), turns=turns)) == [sentence]
    turns = [[True], [False]]
    one = made_up_run(seeds=1, turns=turns, config={"classes": "parity"})
    assert without_inversion(one) == ["No inversion in the odd class: the radius was still falling at the last record."]
    assert without_inversion(made_up_run()) == []


def test_parities_are_called_the_same_in_every_file(tmp_path):
    run = made_up_run(config={"classes": "parity"})
    run.save(tmp_path)
    assert run.class_names == ["even", "odd"]
    assert [each["class"] for each in json.loads((tmp_path / "summary.json").read_text())["classes"]] == ["even", "odd"]
    for name in ("curves", "stragglers"):
        assert set(pq.read_table(tmp_path / f"{name}.parquet")["class"].to_pylist()) == {"even", "odd"}


def test_headline_leads_with_what_most_seeds_did():
    turns = np.zeros((2, 10), bool)
    turns[:, 3] = True
    text = said(made_up_run(turns=turns))
    assert text.startswith(
        "2 of 20 radii (2 classes, 10 seeds) have an inversion. No class has one in half of the seeds or more."
    )
    assert "turned at epoch" not in text
    for answer in ("radius", "path", "error"):
        assert "nversion:" not in answers(made_up_run(turns=turns), 0)[answer]


def test_classes_that_turned_in_few_seeds_are_not_in_the_headline():
    turns = np.ones((10, 10), bool)
    turns[7, 3:] = False
    run = made_up_run(classes=tuple(range(10)), turns=turns)
    assert said(run).startswith("9 of 10 classes turned ")
    assert "In fewer than half of the seeds: class 7 in 3 of 10." in said(run)
    two = np.ones((2, 10), bool)
    two[1, 3:] = False
    assert "; class 1 turned in only 3 of 10 seeds." in said(made_up_run(turns=two))


def test_all_figures_of_a_row_are_over_the_same_seeds():
    turns = np.ones((2, 10), bool)
    turns[1, 3:] = False
    run = made_up_run(turns=turns)
    row = summary(run)["classes"][1]
    mine = run.inversion[:3, -1, 1]
    assert row["value"] == pytest.approx(np.mean([inversion.value for inversion in mine]))
    assert row["rebound"] == pytest.approx(np.mean([inversion.rebound for inversion in mine]))
    assert row["radius_at_end"] == pytest.approx(run.radius[:3, -1, -1, 1].mean())
    assert row["value"] < row["radius_at_end"]
    assert summary(run)["networks_with_all_inversions"] == 3
    assert turning_text(run) == "Both classes have an inversion in 3 of 10 networks."
    assert turning_text(made_up_run(seeds=1)) == ""


def test_the_report_shows_its_evidence(tmp_path):
    turns = np.ones((2, 4), bool)
    turns[1] = False
    run = made_up_run(seeds=4, turns=turns)
    page = written(tmp_path, run)
    data = payload(page)
    assert [len(fits) for fits in data["fit"][-1]] == [4, 4]
    for fit, curve in zip(data["fit"][-1][0], run.radius[:, :, -1, 0], strict=True):
        at, values = fitted_curve(run.epoch, curve)
        np.testing.assert_allclose(fit["epoch"], at, rtol=1e-4)
        np.testing.assert_allclose(fit["value"], values, rtol=1e-4)
    marks = data["inversion"][-1][0]
    for s, epoch in zip(marks["seed"], marks["epoch"], strict=True):
        low, high = run.inversion[s, -1, 0].epoch_interval
        assert (epoch - marks["epoch_below"][s], epoch + marks["epoch_above"][s]) == pytest.approx((low, high), rel=1e-4)
    assert "none: still falling<" in page
    assert "whose rise is larger than noise explains" in page


def test_burn_in_and_least_rise_are_said(tmp_path):
    run = made_up_run(config={"burn_in": 25.0, "min_rise": 0.1})
    assert "the first turn after the first 25 updates whose fall and rise each span at least 10 %" in written(tmp_path, run)
    assert run.inversions(burn_in=0)[0, -1, 0] == made_up_run().inversion[0, -1, 0]
    late = run.judged_by(390, 0.1)
    assert {i.reason for i in late.inversion.flat} <= {
        "too few records (11 of at least 10 past burn_in=390)",
        "rose before it fell",
    }


def test_an_interrupted_run_says_so(tmp_path):
    page = written(tmp_path, made_up_run(epochs=1500, trained=312))
    assert "Interrupted at epoch 312 of 1,500." in page
    assert "Interrupted" not in written(tmp_path, made_up_run()).replace(get_plotlyjs(), "")


@pytest.mark.parametrize("trained", [0, 1, 5])
def test_a_run_interrupted_at_once_still_has_a_page(tmp_path, trained):
    page = written(tmp_path, made_up_run(epochs=100, trained=trained))
    assert f"No inversion in {trained} epoch" in page
    assert payload(page)["epoch"] == list(range(trained + 1))


def test_text_from_data_is_escaped_everywhere(tmp_path):
    run = made_up_run(classes=(EVIL, "b & c\u2028"), config={"data": EVIL, "note": ["</script><img src=x>", None]})
    page = written(tmp_path, run, command=f"fastent run --data '{EVIL}'", points=np.zeros((200, 4, 4), np.uint8))
    own = page.replace(get_plotlyjs(), "")
    assert EVIL not in own
    assert "<img" not in own
    assert "\u2028" not in own.split('id="data">')[1].split("</script>")[0]
    # The page's own: data, plotly, what pages have in common, script.
    assert own.count("<script") == own.count("</script>") == 4
    assert html.escape(EVIL, quote=False) in own
    assert payload(page)["classes"] == [EVIL, "b & c\u2028"]


def test_nothing_is_fetched(tmp_path):
    page = written(tmp_path, made_up_run(), points=np.zeros((200, 4, 4), np.uint8)).replace(get_plotlyjs(), "")
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\'\s)>]+)', page)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "http://" not in page
    assert "https://" not in page


def test_pictures_are_those_of_the_stragglers(tmp_path):
    run = made_up_run()
    # Each picture is grey in the shade of its point.
    pictures = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 8, 8))
    page = written(tmp_path, run, points=pictures)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search(r"data:image/png;base64,([^)]+)", page)[1]))))
    rows = [int(row) for row in re.findall(r'aria-label="Label \d, row (\d+)', page)]
    places = [(int(x), int(y)) for x, y in re.findall(r"background-position:-?(\d+)px -?(\d+)px", page)]
    assert set(run.consensus_stragglers().tolist()) <= set(rows)
    assert len(rows) == len(places) == 20 + 24
    for row, (x, y) in zip(rows, places, strict=True):
        assert sheet[y // 8, x // 8] == row // 3  # shown eight times as large; row numbers are three times the position


def test_points_are_called_by_the_names_of_their_classes_and_parities_by_their_labels(tmp_path):
    pictures = np.zeros((200, 4, 4), np.uint8)
    named = made_up_run(config={"class_names": ["cat <b>", "dog"]})
    page = written(tmp_path, named, points=pictures)
    cells = re.findall(r'title="Label (\d), ([^,]+), row \d+.*?<b>([^<]+)</b>', page, re.S)
    assert set(cells) == {("0", "cat &lt;b&gt;", "cat &lt;b&gt;"), ("1", "dog", "dog")}
    assert "<b>cat <b>" not in page
    assert re.search(r'"name": ?"label", ?"texts": ?\["0", ?"1"\]', page)  # on the map
    run = made_up_run(config={"classes": "parity"})
    parities = replace(run, labels=run.codes + 2 * (np.arange(200) % 4))
    page = written(tmp_path, parities, points=pictures)
    cells = re.findall(r'title="Label (\d), row \d+.*?<b>(\d)</b>', page, re.S)
    assert len(set(cells)) > 2  # more labels than classes
    assert all(label == caption for label, caption in cells)
    plain = re.findall(r'title="Label (\d), row \d+.*?<b>(\d)</b>', written(tmp_path, made_up_run(), points=pictures), re.S)
    assert set(plain) == {("0", "0"), ("1", "1")}


def test_float_pictures_span_black_to_white_and_colours_are_kept(tmp_path):
    pictures = np.zeros((200, 100, 50, 3), np.float64)
    pictures[..., 0] = 7.5
    pictures[..., 2] = -2.5
    page = written(tmp_path, made_up_run(), points=pictures)
    sheet = Image.open(io.BytesIO(base64.b64decode(re.search(r"data:image/png;base64,([^)]+)", page)[1])))
    assert sheet.getpixel((0, 0)) == (255, 64, 0)
    assert sheet.size[0] == 20 * 20  # large ones are stored smaller
    assert sheet.size[1] % 40 == 0


def test_without_pictures_the_stragglers_are_listed(tmp_path):
    run = made_up_run()
    page = written(tmp_path, run)
    listed = [int(row) for row in re.findall(r'<tr data-point="\d+"><th scope="row"><button[^>]*>(\d+)</button></th>', page)]
    assert sorted(listed) == run.consensus_stragglers().tolist()
    assert "image/png" not in page.replace(get_plotlyjs(), "")


@pytest.mark.parametrize(
    ("pictures", "complaint"),
    [
        (np.zeros((199, 4, 4)), "points have 199 rows but the run has 200 points"),
        (np.zeros((199, 16)), "200"),
        (np.zeros(200), "points"),
        (np.full((200, 4, 4), np.nan), "points range from nan to nan"),
        (np.full((200, 4, 4), "x"), "points have dtype"),
        (np.full((200, 4), np.nan), "points"),
    ],
)
def test_bad_points_are_refused(tmp_path, pictures, complaint):
    with pytest.raises(FastentError, match=complaint):
        write_run_report(made_up_run(), tmp_path / "report.html", points=pictures)
    assert not list(tmp_path.iterdir())


@pytest.mark.large
def test_many_points_classes_seeds_and_layers_stay_below_eight_megabytes(tmp_path):
    run = made_up_run(classes=tuple(range(10)), layers=3, epochs=1000, points=10_000)
    noise = np.random.default_rng(0).integers(0, 256, (10_000, 48, 48, 3), np.uint8)
    write_run_report(run, tmp_path / "report.html", points=noise)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 7.5e6
    assert "The first 240 are shown; 760 more are in the run." in page
    assert len(payload(page)["radius"]) == 3
    assert len(payload(page)["radius"][0]) == 10


def test_the_slider_opens_at_the_inversion_and_has_every_epoch_drawn(tmp_path):
    run = made_up_run()
    page = written(tmp_path, run)
    data, (last, start) = payload(page), re.search(r'type="range"[^>]* max="(\d+)"[^>]* value="(\d+)"', page).groups()
    assert int(last) == len(data["epoch"]) - 1
    assert int(start) == data["start"]
    assert abs(data["epoch"][data["start"]] - np.median([i.epoch for i in run.inversion.flat])) <= 1
    still = payload(written(tmp_path, made_up_run(turns=False)))
    assert still["epoch"][still["start"]] == 400


def test_scores_are_those_of_the_records(tmp_path):
    run = made_up_run(seeds=3)
    points = np.array([199, 0, 185])
    found = hardness(run, points)
    wrong = np.stack([run.misclassified(epoch) for epoch in run.epoch], axis=1)[:, :, points]  # (S, E, p)
    np.testing.assert_allclose(found.wrong, wrong.mean((0, 1)))
    np.testing.assert_allclose(found.forgotten, (~wrong[:, :-1] & wrong[:, 1:]).sum(1).mean(0))
    np.testing.assert_allclose(found.at_end, wrong[:, -1].mean(0))
    np.testing.assert_array_equal(found.share, run.straggler_share[points])


def test_points_that_were_not_recorded_have_no_scores():
    run = made_up_run(seeds=2, points=40)
    some = np.array([30, 38, 39])
    bits = np.packbits(np.unpackbits(run.wrong, axis=2, count=40)[:, :, some], axis=2)
    sampled = replace(run, recorded=some, wrong=bits, straggler_bits=np.packbits(run.stragglers, axis=1))
    found, whole = hardness(sampled, np.array([0, 39])), hardness(run, np.array([0, 39]))
    assert np.isnan(found.wrong[0])
    assert found.wrong[1] == whole.wrong[1]


def test_neighbours_are_the_nearest_as_stored(tmp_path):
    run = made_up_run(seeds=2, points=60)
    rows = np.random.default_rng(1).standard_normal((60, 4, 4))
    data = payload(written(tmp_path, run, points=rows))
    flat = rows.reshape(60, -1)
    assert data["gallery"]
    for point in data["gallery"]:
        distance = np.linalg.norm(flat - flat[point["row"] // 3], axis=1)
        distance[point["row"] // 3] = np.inf
        order = np.argsort(distance, kind="stable")
        hit, miss = (order[(run.codes[order] == point["c"]) == own][0] for own in (True, False))
        nearest = np.concatenate([order[:8], [each for each in (hit, miss) if each not in order[:8]]]).astype(int)
        assert [near[0] // 3 for near in point["near"]] == nearest.tolist()
        assert {near[5]: near[0] // 3 for near in point["near"] if near[5]} == {"hit": hit, "miss": miss}
        assert point["scores"]["nearness"] == round(float(distance[hit] / (distance[hit] + distance[miss])), 4)
        np.testing.assert_allclose([near[3] for near in point["near"]], distance[nearest], rtol=1e-4)
        assert [near[2] for near in point["near"]] == run.codes[nearest].tolist()
        assert point["scores"]["strangers"] == round(float((run.codes[order[:8]] != point["c"]).mean()), 4)
        assert all(near[4] is not None for near in point["near"])  # tiny pictures: there is room for all of them


def test_points_that_are_no_pictures_say_where_they_are_odd(tmp_path):
    run = made_up_run(seeds=2, points=60)
    rows = np.random.default_rng(1).standard_normal((60, 5))
    rows[:, 4] = 101325 + 10 * rows[:, 4]  # far from 0 beside what it varies by
    rows[59, 3] = 50.0
    page = written(tmp_path, run, points=rows)
    data = payload(page)
    assert "image/png" not in page.replace(get_plotlyjs(), "")
    assert data["sheet"] is None
    point = next(point for point in data["gallery"] if point["row"] == 59 * 3)
    mine = rows[run.codes == run.codes[59]]
    assert point["features"][0][:2] == [3, 50.0]
    for feature, _, mean, away in point["features"]:
        values = mine[:, feature]
        np.testing.assert_allclose(mean, values.mean(), rtol=1e-5)
        assert away == f"{(rows[59, feature] - values.mean()) / values.std():.1f}"
    assert len(point["features"]) == 5
    assert len(point["near"]) == 8


def test_neighbours_of_few_points_are_those_of_the_search():
    rows = np.random.default_rng(0).integers(0, 3, (300, 4)).astype(np.float32)  # full of ties
    found, expected = points_near(rows, np.arange(0, 300, 7)), fe.neighbors(rows, 8, queries=np.arange(0, 300, 7))
    np.testing.assert_array_equal(found.indices, expected.indices)
    np.testing.assert_allclose(found.distances, expected.distances, rtol=1e-6)


def test_a_class_that_some_network_has_no_point_of_is_said_of_the_others(tmp_path):
    run = made_up_run(seeds=3, classes=tuple("abcdef"))
    run.radius[0, :, :, 1] = np.nan
    run.distance[0, :, :, 1] = run.distance[0, :, :, :, 1] = np.nan
    page = written(tmp_path, run)
    assert "nan" not in " ".join(re.findall(r">([^<]*)<", page[: page.index("<script")])).lower().replace("finance", "")
    assert all(None not in curve["mean"] for curve in payload(page)["distance"][-1])
    run.radius[:, :, :, 1] = np.nan
    run.save(tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "summary.json").read_text(), parse_constant=pytest.fail)
    assert stored["classes"][1]["radius_at_end"] is None


def test_stragglers_per_seed_are_of_the_seeds_that_have_an_inversion():
    run = made_up_run()
    headings, rows = readable_rows(run)
    for row, cells in zip(class_rows(run, run.n_layers - 1), rows, strict=True):
        assert row.cells[7] == cells[headings.index("stragglers / seed")]


def test_only_parities_are_called_even_and_odd():
    assert made_up_run(config={"classes": "parity"}).class_names == ["even", "odd"]
    assert made_up_run().class_names == ["0", "1"]
    named = made_up_run(classes=("even", "odd"))
    assert "2 classes" in description(named)
    assert "2 classes" in repr(named)
    parity = made_up_run(config={"classes": "parity"})
    assert "even against odd" in description(parity)
    assert "even against odd" in repr(parity)


def test_a_measurement_shows_chance_for_each_class_and_what_is_unknown(tmp_path):
    X, y = clusters(0, 900, 5, 3)
    y[:8] = 3
    found = fe.measure(X, y, queries=np.arange(8, 500), metrics=["mixing", "geometry"])
    write_measurement_report(found, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert '<th scope="col">By chance</th>' in page
    for share in found.mixing.class_chance:
        assert f"<td>{percent(share)}</td>" in page
    assert "balanced chance" in page
    assert "Class 3 has no query: purity there and balanced_overlap are unknown" in page
    assert ", by chance " in page[: page.index("</header>")]
