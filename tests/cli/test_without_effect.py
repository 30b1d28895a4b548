"""Options that would have no effect are refused before any work, with what gives them one."""

import numpy as np
import pytest

from tests.command import fastent

NEEDS_OUT = "that is for what is written to a folder: name one with --out"
DATA = ("X.npy", "y.npy")
STREAMED = ("run", "--data", "X.npy", "--labels", "y.npy", "--stream", "--epochs", "1", "--seeds", "1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("options")
    rng = np.random.default_rng(0)
    np.save(place / "X.npy", rng.standard_normal((60, 4), np.float32))
    np.save(place / "images.npy", rng.integers(0, 256, (60, 3, 3), np.uint8))
    np.save(place / "y.npy", np.arange(60) % 2)
    (place / "config.toml").write_text("map = 'pca'\n")
    for name in ("a", "b"):
        options = ("--data", "images.npy", "--labels", "y.npy", "--epochs", "3", "--seeds", "1")
        assert fastent("run", *options, "--out", name, cwd=place).exit_code == 0
    assert fastent(*STREAMED, "--out", "streamed", cwd=place).exit_code == 0
    return place


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (("measure", *DATA, "--images", "images.npy"), f"--images images.npy: {NEEDS_OUT}"),
        (("measure", *DATA, "--map", "auto"), f"--map auto: {NEEDS_OUT}"),
        (("measure", *DATA, "--overwrite"), f"--overwrite: {NEEDS_OUT}"),
        (("measure", *DATA, "--config", "config.toml"), f"--map pca: {NEEDS_OUT}"),
        (
            ("measure", *DATA, "--metrics", "mixing", "--temperature", "2"),
            "--temperature 2: that is for soft_nearest_neighbor: add it to --metrics",
        ),
        (
            ("measure", *DATA, "--metrics", "mixing", "--images", "images.npy", "--out", "new"),
            "--images images.npy: pictures are shown of margins or on a map",
        ),
        (("run", "--map", "pca"), f"--map pca: {NEEDS_OUT}"),
        (("run", "--no-predictions"), f"--no-predictions: {NEEDS_OUT}"),
        (("run", "--predictions"), f"--predictions: {NEEDS_OUT}"),
        (("run", "--overwrite"), f"--overwrite: {NEEDS_OUT}"),
        (("run", "--queries", "5"), "--queries 5: that is for streamed data: add --stream"),
        (("run", "--labels", "y.npy", "--out", "new"), "labels='y.npy': 'digits' has its own; leave them out"),
        (("run", "--data-dir", ".", "--out", "new"), "data_dir='.': digits come with scikit-learn; leave it out"),
        (
            ("run", "--data", "images.npy", "--labels", "y.npy", "--data-dir", "."),
            "data_dir='.': data names no data set of that folder",
        ),
        ((*STREAMED, "--no-predictions", "--out", "new"), "--no-predictions: not available for streamed data"),
        (("report", "a", "b", "--no-predictions"), "--no-predictions: the report of several folders has no stragglers"),
        (("report", "a", "b", "--map", "none"), "--map none: the report of several folders has no map; leave --map out"),
        (("report", "streamed", "--no-predictions"), "--no-predictions: of a run that was streamed from disk none are known"),
        (("experiment", "pruning", "--overwrite"), f"--overwrite: {NEEDS_OUT}"),
        (("experiment", "all", "--overwrite"), f"--overwrite: {NEEDS_OUT}"),
        (("trajectory", "a", "--overwrite"), f"--overwrite: {NEEDS_OUT}"),
        (("duplicates", "X.npy", "--radius", "1", "--overwrite"), f"--overwrite: {NEEDS_OUT}"),
        (("duplicates", "X.npy", "--radius", "1", "--seed", "0"), "--seed 0: that is for the rows drawn for --quantile"),
        (("capture", "--verify", "a", "--layers", "fc"), "--layers fc: --verify 'a' reads what is stored"),
    ],
)
def test_an_option_without_effect_is_refused_before_any_work(folder, command, said):
    before = sorted(path.name for path in folder.iterdir())
    result = fastent(*command, cwd=folder)
    assert result.exit_code == 2, result.output
    assert said in result.stderr
    assert result.stderr.count("\n") == 1 + ("is streamed from disk:" in result.stderr)
    assert sorted(path.name for path in folder.iterdir()) == before


def test_the_same_options_with_what_they_are_for(folder):
    out = ("--out", "new", "--overwrite")
    for command in (
        ("measure", *DATA, "--metrics", "margins,soft_nearest_neighbor", "--temperature", "2", "--images", "images.npy", *out),
        ("measure", *DATA, "--metrics", "mixing,all", "--temperature", "2", "--images", "images.npy", *out),
        ("run", "--epochs", "1", "--seeds", "1", "--map", "none", "--no-predictions", *out),
        ("report", "a", "--no-predictions", "--map", "none"),
        ("duplicates", "X.npy", "--quantile", "0.1", "--seed", "4", "--out", "pairs", "--overwrite"),
    ):
        result = fastent(*command, cwd=folder)
        assert result.exit_code == 0, result.output
