"""Workers of Dask give back what they free; while they work for us they keep it, and afterwards they do as before."""

import subprocess
import sys

import pytest

from fastent.runtime.allocator import freed_memory_kept

# Page faults of allocations of 16 MiB, one after the other.
CODE = """
import resource
import numpy as np
from fastent.runtime.allocator import freed_memory_kept

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(20):
        np.ones(16 << 17)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given = faults()
with freed_memory_kept():
    with freed_memory_kept():
        faults()
    kept = faults()
print(given, kept, faults())
"""


@pytest.mark.spawn
@pytest.mark.skipif(sys.platform != "linux", reason="glibc's")
def test_freed_memory_is_kept_for_a_while():
    environment = {"MALLOC_TRIM_THRESHOLD_": "65536", "PATH": "/usr/bin"}
    printed = subprocess.run(
        [sys.executable, "-c", CODE], env=environment | {"PYTHONPATH": "."}, stdout=subprocess.PIPE, check=True
    )
    given, kept, afterwards = map(int, printed.stdout.split())
    assert kept < given / 4
    assert afterwards > given / 2


def test_nothing_is_done_where_nothing_was_asked_of_glibc(monkeypatch):
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    with freed_memory_kept():
        pass
