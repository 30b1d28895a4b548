import base64
import html
import io
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from fastent.errors import FastentError
from fastent.report.html import write_report
from fastent.report.words import class_names, headline
from fastent.training.run import Run

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
    write_report(run, tmp_path / "report.html", **options)
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
        f"Classes were most compact at epoch {summary.epoch:.0f}, at {100 * summary.train_error:.1f} % training error. "
        f"95 % interval {100 * low:.1f}\u2013{100 * high:.1f} %, 10 of 10 seeds. "
        "20 of 200 training points stood in the way: misclassified at that moment in at least half of the seeds."
    )


def test_headline_without_an_inversion():
    run = made_up_run(turns=False)
    assert said(run) == (
        "No inversion in 400 epochs, because the radius was still falling at the last epoch in 10 of 10 seeds. "
        "Train longer to see whether they turn."
    )


def test_headline_of_one_seed_claims_no_interval():
    text = said(made_up_run(seeds=1))
    assert text.startswith("Classes were most compact at epoch ")
    assert "interval" not in text
    assert "seed" not in text
    assert "because the radius was still falling at the last epoch." in said(made_up_run(seeds=1, turns=False))


def test_headline_of_classes_that_differ():
    turns = np.ones((2, 10), bool)
    turns[0, 6:] = False
    turns[1] = False
    run = made_up_run(turns=turns, config={"classes": "parity"})
    text = said(run)
    assert text.startswith("The even class was most compact at epoch ")
    assert "; the odd class has no inversion." in text
    assert "6 of 10 seeds; no inversion, because the radius was still falling at the last epoch in 4 of 10 seeds." in text
    assert "The odd class: no inversion, because the radius was still falling at the last epoch in 10 of 10 seeds." in text


def test_headline_of_many_classes_gives_ranges():
    turns = np.ones((10, 4), bool)
    turns[7] = False
    text = said(made_up_run(seeds=4, classes=tuple(range(10)), turns=turns))
    assert text.startswith("9 of 10 classes were most compact ")
    assert "No inversion in class 7." in text


def test_headline_leads_with_what_most_seeds_did():
    turns = np.zeros((2, 10), bool)
    turns[:, 3] = True
    text = said(made_up_run(turns=turns))
    assert text.startswith("Only 2 of 20 radii (2 classes, 10 seeds) have an inversion. The 2 classes were most compact ")


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
    page = written(tmp_path, run, command=f"fastent run --data '{EVIL}'", pictures=np.zeros((200, 4, 4), np.uint8))
    own = page.replace(get_plotlyjs(), "")
    assert EVIL not in own
    assert "<img" not in own
    assert "\u2028" not in own.split('id="data">')[1].split("</script>")[0]
    # The page's own: data, plotly, what pages have in common, script.
    assert own.count("<script") == own.count("</script>") == 4
    assert html.escape(EVIL, quote=False) in own
    assert payload(page)["classes"] == [EVIL, "b & c\u2028"]


def test_nothing_is_fetched(tmp_path):
    page = written(tmp_path, made_up_run(), pictures=np.zeros((200, 4, 4), np.uint8)).replace(get_plotlyjs(), "")
    addresses = re.findall(r'(?:src|href|url)\s*[=(]\s*["\']?([^"\'\s)>]+)', page)
    assert addresses
    assert all(address.startswith(("data:", "#")) for address in addresses)
    assert "http://" not in page
    assert "https://" not in page


def test_pictures_are_those_of_the_stragglers(tmp_path):
    run = made_up_run()
    # Each picture is grey in the shade of its point.
    pictures = np.broadcast_to(np.arange(200, dtype=np.uint8)[:, None, None], (200, 8, 8))
    page = written(tmp_path, run, pictures=pictures)
    sheet = np.asarray(Image.open(io.BytesIO(base64.b64decode(re.search(r"data:image/png;base64,([^)]+)", page)[1]))))
    rows = [int(row) for row in re.findall(r'aria-label="Label \d, row (\d+)"', page)]
    places = [(int(x), int(y)) for x, y in re.findall(r"background-position:-?(\d+)px -?(\d+)px", page)]
    assert set(run.consensus_stragglers().tolist()) <= set(rows)
    assert len(rows) == len(places) == 20 + 24
    for row, (x, y) in zip(rows, places, strict=True):
        assert sheet[y // 8, x // 8] == row // 3  # shown eight times as large; row numbers are three times the position


def test_float_pictures_span_black_to_white_and_colours_are_kept(tmp_path):
    pictures = np.zeros((200, 100, 50, 3), np.float64)
    pictures[..., 0] = 7.5
    pictures[..., 2] = -2.5
    page = written(tmp_path, made_up_run(), pictures=pictures)
    sheet = Image.open(io.BytesIO(base64.b64decode(re.search(r"data:image/png;base64,([^)]+)", page)[1])))
    assert sheet.getpixel((0, 0)) == (255, 64, 0)
    assert sheet.size == (20 * 20, 3 * 40)  # large ones are stored smaller


def test_without_pictures_the_stragglers_are_listed(tmp_path):
    run = made_up_run()
    page = written(tmp_path, run)
    listed = [int(row) for row in re.findall(r"<tr><td>(\d+)</td>", page)]
    assert sorted(listed) == run.consensus_stragglers().tolist()
    assert "image/png" not in page.replace(get_plotlyjs(), "")


@pytest.mark.parametrize(
    ("pictures", "complaint"),
    [
        (np.zeros((199, 4, 4)), "pictures has 199 rows but the run has 200 points"),
        (np.zeros((200, 16)), r"pictures has shape \(200, 16\)"),
        (np.zeros((200, 3, 4, 4)), r"pictures has shape \(200, 3, 4, 4\)"),
        (np.full((200, 4, 4), np.nan), "pictures ranges from nan to nan"),
        (np.full((200, 4, 4), "x"), "pictures has dtype"),
    ],
)
def test_bad_pictures_are_refused(tmp_path, pictures, complaint):
    with pytest.raises(FastentError, match=complaint):
        write_report(made_up_run(), tmp_path / "report.html", pictures=pictures)
    assert not list(tmp_path.iterdir())


def test_many_points_classes_seeds_and_layers_stay_below_eight_megabytes(tmp_path):
    run = made_up_run(classes=tuple(range(10)), layers=3, epochs=1000, points=10_000)
    noise = np.random.default_rng(0).integers(0, 256, (10_000, 48, 48, 3), np.uint8)
    write_report(run, tmp_path / "report.html", pictures=noise)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert len(page.encode()) < 7.5e6
    assert "The first 240 are shown; 760 more are in the run." in page
    assert len(payload(page)["radius"]) == 3
    assert len(payload(page)["radius"][0]) == 10


def test_only_parities_are_called_even_and_odd():
    assert class_names(made_up_run(config={"classes": "parity"})) == ["even", "odd"]
    assert class_names(made_up_run()) == ["0", "1"]


CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=4000",
    "--dump-dom",
]


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize("many", [False, True])
def test_the_figures_are_drawn(tmp_path, many):
    classes = (EVIL, *map(str, range(9))) if many else (EVIL, "b")
    run = made_up_run(classes=classes, layers=2, seeds=10)
    write_report(run, tmp_path / "report.html")
    browser = subprocess.run(
        [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", (tmp_path / "report.html").as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert len(re.findall(r'class="plot[^"]*js-plotly-plot', browser.stdout)) == 4
    assert browser.stdout.count('class="main-svg"') >= 4
    assert "CONSOLE" not in browser.stderr
