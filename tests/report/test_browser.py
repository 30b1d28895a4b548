"""Pages in a browser: they work without a network, with the keyboard, and take text from data as text."""

import json
import shutil

import numpy as np
import pytest

import fastent as fe
from fastent.report.comparison import write_comparison
from fastent.report.measurement import write_measurement_report
from fastent.report.run import write_run_report
from tests.report.test_layers import made_up_records, made_up_trajectory
from tests.report.test_report import EVIL, made_up_run

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.select import Select  # noqa: E402
from selenium.webdriver.support.wait import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.site,
    pytest.mark.spawn,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium and chromedriver are not installed"),
]

QUOTED = """a "quoted" folder & it's <b>bold</b>"""
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,900")  # fmt: skip


@pytest.fixture(scope="module")
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """One page of each kind, in a folder whose name is as awkward as the labels."""
    folder = tmp_path_factory.mktemp("pages") / QUOTED.replace("/", " of ")
    folder.mkdir()
    rng = np.random.default_rng(0)
    run = made_up_run(classes=(EVIL, "b"), layers=2, seeds=4, config={"data": str(folder), "source": EVIL})
    pictures = rng.integers(0, 256, (200, 6, 6), np.uint8)
    write_run_report(run, folder / "run.html", points=pictures, command=f"fastent run --data '{QUOTED}'")
    write_run_report(run, folder / "features.html", points=rng.standard_normal((200, 7)))
    many = made_up_run(classes=(EVIL, *map(str, range(9))), seeds=10, layers=1)
    write_run_report(many, folder / "many.html")
    X = rng.standard_normal((90, 4)).astype(np.float32)
    labels = np.array([EVIL, "b & c", "d"])[np.arange(90) % 3]
    noise = rng.integers(0, 256, (90, 5, 5), np.uint8)
    for name in ("first", EVIL.replace("/", " ")):
        measured = fe.measure(X, labels, k=5, metrics=["mixing", "margins", "geometry", "dimension"], map="pca")
        measured.save(folder / name, asked={"X": QUOTED})
        X = X + 2 * (np.arange(90) % 3)[:, None].astype(np.float32)
    write_measurement_report(measured, folder / "measurement.html", name=EVIL, images=noise)
    names = np.array([f"{EVIL} {c}" for c in range(30)])[np.arange(90) // 3]
    write_measurement_report(fe.measure(X, names, k=2, metrics="mixing", map="pca"), folder / "names.html", name=EVIL)
    write_comparison([folder / "first", folder / EVIL.replace("/", " ")], folder / "measurements.html", command=QUOTED)
    for name, each in (("sgd", run), (f"adam {EVIL.replace('/', ' ')}", made_up_run(classes=(EVIL, "b"), seeds=3, turn_at=60))):
        each.save(folder / name)
    fe.write_report(made_up_records(), folder / "probe.html", command=QUOTED)
    fe.write_report(made_up_trajectory(measured), folder / "trajectory.html", command=QUOTED)
    write_comparison([folder / "sgd", folder / f"adam {EVIL.replace('/', ' ')}"], folder / "runs.html")
    return folder


@pytest.fixture
def opened(browser, pages):
    """Open a page, unless it is; afterwards there must be no message on its console and no request for anything but itself."""

    def visit(name: str):
        place = (pages / name).as_uri()
        if browser.current_url != place:  # to read five megabytes of script takes a second
            browser.get(place)
        return browser

    yield visit
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
    assert all(url.startswith(("file:", "data:")) for url in asked)


def find(browser, css):
    return browser.find_elements(By.CSS_SELECTOR, css)


@pytest.mark.parametrize("name", ["features", "run"])
def test_a_point_opens_with_its_neighbours(opened, name):
    browser = opened(f"{name}.html")
    data = json.loads(browser.find_element(By.ID, "data").get_attribute("textContent"))
    first, second = find(browser, "[data-open]")[:2]
    first.send_keys(Keys.ENTER)
    assert first.get_attribute("aria-expanded") == "true"
    shown = browser.find_element(By.CSS_SELECTOR, ".panel").text
    near = data["gallery"][0]["near"]
    for row, _, _, distance, _, which in near:
        assert str(row) in shown
        assert {"hit": "nearest of its class", "miss": "nearest of another class", "": ""}[which] in shown
        assert f"{float(f'{distance:.3g}'):g}" in shown
    assert len(find(browser, ".panel .cell .picture")) == (len(near) if name == "run" else 0)
    if name == "features":
        assert "Where it lies farthest from its class" in shown
    browser.execute_script("arguments[0].click()", second)
    assert [button.get_attribute("aria-expanded") for button in (first, second)] == ["false", "true"]
    assert len(find(browser, ".panel")) == 1
    second.send_keys(Keys.ESCAPE)
    assert not find(browser, ".panel")
    assert browser.switch_to.active_element == second


def test_paths_and_commands_with_quotes_are_shown_as_they_are(opened):
    browser = opened("run.html")
    assert browser.find_element(By.CSS_SELECTOR, "pre code").text == f"fastent run --data '{QUOTED}'"
    assert QUOTED.replace("/", " of ") in browser.find_element(By.CSS_SELECTOR, ".facts").text


def marked(browser):
    """Where the line of the slider stands in each figure, and the epoch that is read out."""
    places = browser.execute_script(
        "return [...document.querySelectorAll('.figures .plot')].map((plot) => plot.layout.shapes[0].x0)"
    )  # fmt: skip
    return places, browser.find_element(By.CSS_SELECTOR, "#readout dd").text


def test_the_slider_moves_a_marker_through_every_figure(opened):
    browser = opened("run.html")
    data = json.loads(browser.find_element(By.ID, "data").get_attribute("textContent"))
    slider = browser.find_element(By.ID, "moment")
    assert browser.find_element(By.CSS_SELECTOR, "label[for=moment]").text == "Epoch"
    for keys, place in (
        ((), data["start"]),
        ((Keys.ARROW_RIGHT,) * 2, data["start"] + 2),
        ((Keys.END,), len(data["epoch"]) - 1),
    ):
        slider.send_keys(*keys)
        epoch, error = data["epoch"][place], data["train_error"]["mean"][place]
        WebDriverWait(browser, 5).until(lambda b, epoch=epoch: marked(b)[1] == str(epoch))
        expected = [epoch, max(error, 0.5 / 200), epoch, epoch]
        WebDriverWait(browser, 5).until(lambda b, expected=expected: np.allclose(marked(b)[0], expected))
        said = browser.find_element(By.ID, "readout").text
        assert f"{data['radius'][1][1]['mean'][place]:.4f}" in said
        assert slider.get_attribute("aria-valuetext").startswith(f"epoch {epoch}, training error ")
    slider.send_keys(Keys.HOME)  # epoch 0 has no place on a logarithmic axis
    WebDriverWait(browser, 5).until(lambda b: marked(b) == ([1, 1, 1, 1], "0"))


def test_layers_and_classes_can_be_chosen(opened):
    browser = opened("run.html")
    before = browser.execute_script("return document.getElementById('plot-radius').data.length")
    browser.execute_script("document.querySelector('[data-choice=classes] input').click()")
    assert browser.execute_script("return document.getElementById('plot-radius').data.length") < before
    browser.execute_script("document.querySelector('[data-choice=layer] input').click()")
    assert [body.is_displayed() for body in find(browser, "tbody[data-layer]")] == [True, False]
    browser.execute_script("document.querySelector('[data-choice=classes] input').click()")
    browser.execute_script("document.querySelectorAll('[data-choice=layer] input')[1].click()")
    assert browser.execute_script("return document.getElementById('plot-radius').data.length") == before


def test_stragglers_are_sorted_by_every_score(opened):
    browser = opened("run.html")
    data = json.loads(browser.find_element(By.ID, "data").get_attribute("textContent"))
    order = Select(browser.find_element(By.ID, "order"))
    keys = [option.get_attribute("value") for option in order.options]
    assert keys == ["class", "share", "wrong", "forgotten", "at_end", "strangers", "nearness"]
    for key in keys[1:]:
        order.select_by_value(key)
        numbers = [int(item.get_attribute("data-point")) for item in find(browser, "#sorted > [data-point]")]
        assert sorted(numbers) == list(range(20))
        values = [data["gallery"][number]["scores"][key] for number in numbers]
        assert values == sorted(values, reverse=True)
    order.select_by_value("strangers")
    assert find(browser, "#sorted .score")[0].text.endswith("%")
    order.select_by_value("class")
    assert [len(find(browser, f"[data-home='{c}'] > [data-point]")) for c in (0, 1)] == [10, 10]
    browser.execute_script("document.querySelectorAll('[data-choice=group] input')[1].click()")
    assert [group.is_displayed() for group in find(browser, "section[data-group]")] == [True, False]
    browser.execute_script("document.querySelector('[data-choice=group] input').click()")


def test_dark_and_light_and_paper(opened):
    browser = opened("run.html")
    ink = "return document.querySelector('.plot').layout.font.color"
    drawn = {}
    for scheme in ("light", "dark"):
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        WebDriverWait(browser, 5).until(lambda b: b.execute_script(ink) not in drawn.values())
        drawn[scheme] = browser.execute_script(ink)
    assert drawn == {"light": "#17191c", "dark": "#e9eaec"}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    assert not any(control.is_displayed() for control in find(browser, "input, select"))
    assert all(plot.is_displayed() for plot in find(browser, ".plot"))
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})


def on_the_map(browser):
    """For each trace of the map how many points it has, and the point that has the thick ring."""
    traces = browser.execute_script(
        "return document.getElementById('plot-map').data.map((trace) => [trace.mode, trace.x.length, trace.x, trace.y])"
    )
    points = [n for mode, n, *_ in traces if mode == "markers"]
    return points, (traces[-1][2:] if points[-1] else None)


def test_the_map_is_driven_with_the_keyboard(opened):
    browser = opened("measurement.html")
    data = json.loads(browser.find_element(By.ID, "data").get_attribute("textContent"))["map"]
    plot = browser.find_element(By.ID, "plot-map")
    assert plot.get_attribute("aria-label").startswith("90 points by PCA, coloured by class.")
    said = browser.find_element(By.CSS_SELECTOR, "#map .lead").text
    assert "nearest neighbours are among its 5 nearest on the map; chance would give 5.6" in said
    marked = data["rings"]
    assert 0 < len(marked) < 90
    toggle = browser.find_element(By.CSS_SELECTOR, "[data-choice=rings] input")
    if not toggle.is_selected():
        toggle.send_keys(Keys.SPACE)
    assert on_the_map(browser) == ([90, len(marked), 0], None)
    following = browser.find_element(By.CSS_SELECTOR, "[data-step='1']")
    for point in marked[:2]:
        following.send_keys(Keys.ENTER)
        assert on_the_map(browser)[1] == [[data["layouts"][0]["x"][point]], [data["layouts"][0]["y"][point]]]
        panel = browser.find_element(By.ID, "map-point")
        assert panel.text.split("\n")[:4] == ["row", str(data["rows"][point]), "class", data["names"][data["codes"][point]]]
        assert len(find(browser, "#map-point .picture")) == 1
    browser.find_element(By.CSS_SELECTOR, "[data-step='-1']").send_keys(Keys.ENTER)
    row = browser.find_element(By.ID, "map-row")
    assert row.get_attribute("value") == str(data["rows"][marked[0]])
    row.clear()
    row.send_keys("17", Keys.ENTER)
    assert browser.find_element(By.CSS_SELECTOR, "#map-point dd").text == "17"
    row.clear()
    row.send_keys("4000", Keys.ENTER)
    assert "no such row" in browser.find_element(By.ID, "map-point").text
    toggle.send_keys(Keys.SPACE)
    assert on_the_map(browser)[0] == [90, 0]
    browser.find_element(By.CSS_SELECTOR, "input[name=map-class]").send_keys(Keys.ARROW_RIGHT)
    assert on_the_map(browser)[0] == [60, 30, 0]
    browser.find_element(By.CSS_SELECTOR, "input[name=map-class]:checked").send_keys(Keys.ARROW_LEFT)
    assert on_the_map(browser)[0] == [90, 0]


def test_many_classes_are_chosen_from_a_list(opened):
    browser = opened("names.html")
    assert "23 other classes in grey" in browser.find_element(By.CSS_SELECTOR, "#map .key").text
    Select(browser.find_element(By.CSS_SELECTOR, "#map select")).select_by_index(12)
    assert on_the_map(browser)[0][:2] == [87, 3]


def test_a_run_has_a_map_of_its_points(opened):
    browser = opened("run.html")
    assert on_the_map(browser)[0] == [200, 20, 0]
    assert not find(browser, "[data-choice=layout]")  # one map of one space
    assert "straggler in" not in browser.find_element(By.ID, "map-point").text
    browser.find_element(By.CSS_SELECTOR, "[data-step='1']").send_keys(Keys.ENTER)
    assert "straggler in" in browser.find_element(By.ID, "map-point").text
    assert len(find(browser, "#map-point .picture")) == 1


def test_points_of_a_measurement_open_with_the_keyboard(opened):
    browser = opened("measurement.html")
    data = json.loads(browser.find_element(By.ID, "data").get_attribute("textContent"))
    order = Select(browser.find_element(By.ID, "order"))
    assert [option.get_attribute("value") for option in order.options] == ["class", "nearness", "strangers"]
    for key in ("nearness", "strangers"):
        order.select_by_value(key)
        numbers = [int(item.get_attribute("data-point")) for item in find(browser, "#sorted > [data-point]")]
        values = [data["gallery"][number]["scores"][key] for number in numbers]
        assert sorted(numbers) == list(range(90))
        assert values == sorted(values, reverse=True)
    order.select_by_value("class")
    first = find(browser, "#gallery [data-open]")[0]
    first.send_keys(Keys.ENTER)
    shown = browser.find_element(By.CSS_SELECTOR, ".panel").text
    assert "nearest of its class" in shown
    assert "nearest of another class" in shown
    assert EVIL in shown
    assert len(find(browser, ".panel .cell .picture")) == len(data["gallery"][0]["near"])
    first.send_keys(Keys.ESCAPE)
    assert not find(browser, ".panel")


def test_runs_are_compared_class_by_class(opened):
    browser = opened("runs.html")
    title = "return document.getElementById('plot-radius').data.map((trace) => (trace.hovertext || [])[0]).join()"
    before = browser.execute_script(title)
    browser.execute_script("document.querySelectorAll('[data-choice=class] input')[1].click()")
    assert browser.execute_script(title) != before
    browser.execute_script("document.querySelectorAll('[data-choice=runs] input').forEach((input) => input.click())")
    assert browser.execute_script("return document.getElementById('plot-radius').data.length") == 0


def test_layers_are_explored_with_the_keyboard(opened):
    browser = opened("probe.html")
    data = json.loads(browser.find_element(By.ID, "data").get_attribute("textContent"))
    cells = "return document.getElementById('plot-heat').data[0].z"
    assert np.allclose(browser.execute_script(cells), data["statistics"][0]["values"])
    statistic = browser.find_element(By.ID, "statistic")
    statistic.send_keys(Keys.ARROW_DOWN)
    WebDriverWait(browser, 5).until(lambda b: np.allclose(b.execute_script(cells), data["statistics"][1]["values"]))
    assert [each.is_displayed() for each in find(browser, "[data-statistic]")] == [False, True, False, False]
    browser.find_elements(By.CSS_SELECTOR, "[name=colours]")[0].send_keys(Keys.ARROW_RIGHT)
    WebDriverWait(browser, 5).until(lambda b: np.ptp(b.execute_script(cells), axis=1).tolist() == [1, 1])
    slider = browser.find_element(By.ID, "moment")
    slider.send_keys(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    WebDriverWait(browser, 5).until(lambda b: b.find_element(By.CSS_SELECTOR, "#readout dd").text == "57")
    said = [each.text for each in find(browser, "#readout dd")][1:]
    assert np.allclose([float(value) for value in said], np.array(data["statistics"][1]["values"])[:, 57], atol=1e-4)
    browser.find_element(By.ID, "layer").send_keys(Keys.ARROW_UP)
    assert [each.is_displayed() for each in find(browser, "tbody[data-layer]")] == [True, False]
    turns = browser.execute_script("return document.getElementById('plot-heat').data[1].x")
    assert turns == [row[0]["at"] for row in data["inversion"]]
    browser.get("about:blank")  # other tests begin with the page as it opens


def test_checkpoints_and_their_map_are_explored_with_the_keyboard(opened):
    browser = opened("trajectory.html")
    data = json.loads(browser.find_element(By.ID, "data").get_attribute("textContent"))
    axis = "return [plot.data[0].x, plot.layout.xaxis.tickvals, plot.layout.xaxis.ticktext]"
    x, ticks, texts = browser.execute_script(f"const plot = document.getElementById('plot-statistic'); {axis}")
    assert (texts[0], ticks[0]) == ("0", x[0])  # step 0 has its own place, left of step 1
    assert 0 < x[0] < x[1] == 1
    assert x[1:] == data["moment"][1:]
    assert "checkpoint 0 has a place of its own" in browser.find_element(By.TAG_NAME, "main").text
    browser.find_element(By.ID, "statistic").send_keys(Keys.ARROW_DOWN)
    cells = "return document.getElementById('plot-heat').data[0].z"
    WebDriverWait(browser, 5).until(
        lambda b: np.allclose(b.execute_script(cells), np.log10(data["statistics"][1]["values"]), rtol=1e-3)
    )
    slider = browser.find_element(By.ID, "moment")
    slider.send_keys(Keys.HOME)
    WebDriverWait(browser, 5).until(lambda b: b.find_element(By.CSS_SELECTOR, "#readout dd").text == "step0")
    assert browser.execute_script("return document.getElementById('plot-statistic').layout.shapes[0].x0") == x[0]
    browser.find_element(By.CSS_SELECTOR, "[name=axis]").send_keys(Keys.ARROW_RIGHT)
    WebDriverWait(browser, 5).until(
        lambda b: b.execute_script(f"const plot = document.getElementById('plot-statistic'); {axis}")[0] == data["moment"]
    )
    browser.find_element(By.CSS_SELECTOR, "[data-step='1']").send_keys(Keys.ENTER)
    shown = browser.find_element(By.ID, "map-point").text.split("\n")
    assert shown[:2] == ["row", str(data["map"]["rows"][data["map"]["rings"][0]])]
    browser.find_element(By.CSS_SELECTOR, "input[name=map-class]").send_keys(Keys.ARROW_RIGHT)
    assert on_the_map(browser)[0][:2] == [60, 30]
    browser.get("about:blank")


@pytest.mark.parametrize(
    ("name", "drawn"),
    [
        ("runs", 3),
        ("run", 5),
        ("features", 5),
        ("many", 4),
        ("measurement", 7),
        ("measurements", 5),
        ("names", 3),
        ("probe", 6),
        ("trajectory", 4),
    ],
)
def test_every_page_draws_shows_text_as_text_and_fits_a_telephone(opened, name, drawn):
    browser = opened(f"{name}.html")
    WebDriverWait(browser, 20).until(lambda b: len(find(b, ".plot.js-plotly-plot")) == drawn)
    assert EVIL.replace("/", " ") in browser.find_element(By.TAG_NAME, "body").text.replace("/", " ")
    assert not find(browser, "main b b, main img, main script")
    if name == "measurements":
        assert QUOTED in browser.find_element(By.CSS_SELECTOR, ".config").text
    for width in (1280, 390):
        browser.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride", {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        )
        WebDriverWait(browser, 5).until(lambda b, width=width: b.execute_script("return innerWidth") == width)
        WebDriverWait(browser, 5).until(
            lambda b, width=width: b.execute_script("return document.documentElement.scrollWidth") <= width
        )
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
