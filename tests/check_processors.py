"""The search's tests with kernels compiled for each kind of processor that this one can stand in for.

python tests/check_processors.py: for each level of x86-64 that kernels are prebuilt for, and for one without AVX.
"""

import os
import subprocess
import sys

from fastent.kernels.prebuilt import LEVELS, processor_of, runs_here

TESTS = (
    "test_quantized.py", "test_neighbors.py", "test_exactness.py", "test_scan.py", "test_index.py", "test_tile_limits.py",
    "test_radii.py",
)  # fmt: skip
WITHOUT_AVX = ["cx16", "sahf", "popcnt", "sse3", "sse4.1", "sse4.2", "ssse3"]


def main() -> int:
    failed = []
    for level, features in {**LEVELS, "x86-64-v2": WITHOUT_AVX}.items():
        if level in LEVELS and not runs_here(level):
            print(f"{level}: not run, this processor cannot")
            continue
        made_for = {"NUMBA_CPU_NAME": processor_of(level), "NUMBA_CPU_FEATURES": ",".join(f"+{name}" for name in features)}
        print(level, flush=True)
        tests = [f"tests/search/{name}" for name in TESTS]
        command = [sys.executable, "-m", "pytest", "-q", "-n", "2", "--dist", "worksteal", *tests]
        if subprocess.run(command, env=os.environ | made_for).returncode:
            failed.append(level)
    print(f"failed: {', '.join(failed)}" if failed else "all levels that were run pass")
    return len(failed)


if __name__ == "__main__":
    sys.exit(main())
