"""What the first call of a process costs over the second: run by tests/check_wheel.sh, in an environment of its own."""

import sys
import time

import fastent as fe


def neighbors(dtype: str) -> None:
    import numpy as np

    fe.neighbors(np.random.default_rng(0).standard_normal((5000, 128)).astype(dtype))


def measure() -> None:
    from sklearn.datasets import load_digits

    fe.measure(*load_digits(return_X_y=True))


CALLS = {
    "neighbors-float32": lambda: neighbors("float32"),
    "neighbors-float64": lambda: neighbors("float64"),
    "measure": measure,
    "train": lambda: fe.train("digits", seeds=3, epochs=50),
}


def main(name: str) -> None:
    moments = [time.perf_counter()]
    for _ in range(2):
        CALLS[name]()
        moments.append(time.perf_counter())
    from fastent.kernels.compiling import compile_seconds

    first, second = moments[1] - moments[0], moments[2] - moments[1]
    print(f"{name}: first call {first:.2f} s, of which compilation {compile_seconds():.2f} s; second {second:.2f} s")
    if compile_seconds() > 0:
        sys.exit("kernels were compiled that should have come with the wheel")


if __name__ == "__main__":
    main(sys.argv[1])
