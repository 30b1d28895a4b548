"""Examples in the help of each command; the tests run every one."""

from typing import NamedTuple

__all__ = ["EXAMPLES", "examples"]


class Example(NamedTuple):
    what: str
    command: str


EXAMPLES = {
    "": (
        Example("Ten networks on scikit-learn's digits", "run --out digits"),
        Example("How tangled stored activations are", "measure X.npy y.npy --out layer3"),
        Example("Whether the stragglers cause the inversion", "experiment pruning --out claims"),
    ),
    "run": (
        Example("Ten networks on scikit-learn's digits", "run --out digits"),
        Example("The source paper's set-up", "run --data mnist --data-dir data --preset paper --out mnist"),
        Example(
            "Your own data, a larger network",
            "run --data own.npz --hidden 512,128 --activation relu --optimizer adam --lr 0.001 --out own",
        ),
        Example(
            "Data streamed from disk, in mini-batches",
            "run --data X.npy --labels y.npy --model cnn --seeds 1 --epochs 10 --batch-size 256 --record-every 0.25 --out big",
        ),
        Example("Only the numbers, for a script", "run --json"),
    ),
    "measure": (
        Example("All rows, every statistic", "measure X.npy y.npy --out layer3"),
        Example("Millions of rows, read from disk: means with intervals", "measure shards/ y.npy --queries 20000 --out all"),
        Example("Two statistics, limited memory", "measure X.npy y.npy --metrics mixing,margins --memory 1GiB --json"),
        Example("A layer stored by fastent capture", "measure acts:layer3 acts --out captured"),
    ),
    "capture": (
        Example(
            "The activations of two layers",
            "capture --model net:make --weights W.pt --data X.npy --labels y.npy --layers layer3,fc --out acts",
        ),
        Example("Check every byte", "capture --verify acts"),
    ),
    "report": (
        Example("The report of a stored run, written again", "report digits"),
        Example("Two runs side by side", "report sgd adam --out optimisers.html"),
        Example("Measurements of layers, in this order", "report layer1 layer2 layer3"),
    ),
    "experiment": (
        Example("One claim", "experiment stability --out claims"),
        Example("All claims, in the source paper's set-up", "experiment all --data mnist --preset paper --out paper"),
    ),
    "info": (Example("As JSON, for a script", "info --json"),),
    "bench": (
        Example("As much as fits in two minutes", "bench --minutes 2"),
        Example("Only some jobs, as JSON for a script", "bench --minutes 1 --only margins --json"),
    ),
}


def examples(command: str) -> str:
    """The text below the help of a command."""
    lines = [f"{what}:\n  fastent {line}" for what, line in EXAMPLES[command]]
    return "\n".join(["[bold]Examples[/bold]", *lines])
