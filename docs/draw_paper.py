"""Draw the pictures of docs/paper.md: python docs/draw_paper.py DATA_DIR [FOLDER], where DATA_DIR has the named data sets."""

import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

import fastent as fe
import fastent.experiments as ex
from fastent.io.files import atomic_path

SETS = {"digits": 1500, "mnist": 300, "fashion-mnist": 800, "kmnist": 300}


def data_sets(data_dir):
    """Radii against the training error in the paper's set-up: three networks on each data set."""
    figure = Figure((7.2, 5), layout="constrained")
    for (name, epochs), axes in zip(SETS.items(), figure.subplots(2, 2).flat, strict=True):
        data = fe.load_data(name, preset="paper", data_dir=None if name == "digits" else data_dir)
        fe.train(data, seeds=3, epochs=epochs, preset="paper").plot(against="train_error", ax=axes)
        axes.set_title(f"{name}, {len(data.y_train):,} points")
    return figure


def entanglement(data_dir):
    """Measures of spread and of separation on digits."""
    figure = Figure((7, 4.2), layout="constrained")
    ex.entanglement("digits").draw(figure.subplots())
    return figure


def main(data_dir, folder):
    for draw in (data_sets, entanglement):
        style = {"svg.fonttype": "none", "svg.hashsalt": draw.__name__, "font.size": 9, "axes.titlesize": 9}
        with matplotlib.rc_context(style), atomic_path(folder / f"{draw.__name__}.svg") as temporary:
            draw(data_dir).savefig(temporary, metadata={"Date": None}, facecolor="white")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parent / "pictures")
