"""Training on data on disk is killed (kill -9) at random moments and resumed: the result is that of an uninterrupted run.

    python bench/kill_run.py --kills 20

The results are bit-identical. Checkpoints are written every tenth of a second instead of every minute, and the data are small.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

OPTIONS = {
    "hidden": (32, 16), "activation": "relu", "epochs": 60, "batch_size": 64, "record_every": 0.5, "lr": 0.2, "momentum": 0.5,
    "record_points": 1000, "queries": 200, "seeds": 2, "threads": 1,
}  # fmt: skip
# Every update uses all rows, in pieces, so that kills fall within updates.
ALL_ROWS = {"batch_size": None, "record_every": 10, "epochs": 2000}
TRAIN = """
import sys
import fastent as fe
from fastent.training import streamed_session
streamed_session._CHECKPOINT_SECONDS = 0.1
run = fe.train_streamed(*sys.argv[1:3], checkpoint=sys.argv[3], progress=lambda *_: print(".", flush=True), **{options!r})
run.save(sys.argv[3])
"""


def main() -> None:
    import fastent as fe

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--all-rows", action="store_true", help="Use all rows in every update instead of batches.")
    arguments = parser.parse_args()
    kills, train = arguments.kills, TRAIN.format(options=OPTIONS | (ALL_ROWS if arguments.all_rows else {}))
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        y = rng.integers(0, 5, 3000)
        X = np.clip(100 + 20 * rng.standard_normal((3000, 30)) + 60 * np.eye(30)[y], 0, 255).astype(np.uint8)
        y[rng.random(3000) < 0.1] = 0
        np.save(folder / "X.npy", X)
        np.save(folder / "y.npy", y)
        files = [str(folder / "X.npy"), str(folder / "y.npy")]
        subprocess.run([sys.executable, "-c", train, *files, str(folder / "whole")], check=True, stdout=subprocess.DEVNULL)
        done = 0
        while done < kills:
            command = [sys.executable, "-c", train, *files, str(folder / "killed")]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
                assert process.stdout is not None
                for _ in range(
                    int(rng.integers(1, 100 if arguments.all_rows else 200))
                ):  # the first dots are the pass for the constants
                    if not process.stdout.readline():
                        break
                process.kill()
                done += process.wait() == -9
        subprocess.run([sys.executable, "-c", train, *files, str(folder / "killed")], check=True, stdout=subprocess.DEVNULL)
        whole, killed = fe.load_run(folder / "whole"), fe.load_run(folder / "killed")
        names = ("epoch", "train_error", "radius", "distance", "mixing", "neighbor_error", "wrong", "stragglers")
        same = all(np.array_equal(getattr(whole, name), getattr(killed, name)) for name in names)
        same &= all(np.array_equal(value, killed.state[name]) for name, value in whole.state.items())
        left = sorted(path.name for path in (folder / "killed").rglob(".*"))
        inversions = sum(bool(inversion) for inversion in whole.inversion.flat)
        print(f"{done} kills: the same bits: {same}; files left over: {left or 'none'}; {inversions} inversions")
        sys.exit(0 if same and not left else 1)


if __name__ == "__main__":
    main()
