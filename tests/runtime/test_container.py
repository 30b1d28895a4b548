"""Memory and processors of a container, from made-up folders in the place of /proc and /sys."""

import os
import resource
import subprocess
import sys

import pytest

from fastent.processors import default_threads, processors
from fastent.runtime.memory import available_bytes

GIB = 2**30


@pytest.fixture
def machine(tmp_path):
    """64 GiB free, no control group; returns a function that writes files."""

    def write(**files):
        for name, text in files.items():
            path = tmp_path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path

    write(proc__meminfo=f"MemTotal: {2**27} kB\nMemAvailable: {2**26} kB\n", proc__self__status="VmSize: 0 kB\n")
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)

    def files(contents):
        return write(**{name.replace("/", "__"): text for name, text in contents.items()})

    return files


def test_without_groups_it_is_the_machine(machine):
    assert available_bytes(machine({})) == 64 * GIB


@pytest.mark.parametrize("unlimited", ["max", str(2**63 - 4096)])
def test_version_2_counts_caches_as_free(machine, unlimited):
    group = "sys/fs/cgroup/"
    root = machine({f"{group}memory.max": f"{unlimited}\n", f"{group}memory.current": f"{GIB}\n"})
    assert available_bytes(root) == 64 * GIB
    root = machine({f"{group}memory.max": f"{4 * GIB}\n", f"{group}memory.stat": f"anon 5\ninactive_file {GIB // 2}\n"})
    assert available_bytes(root) == 3 * GIB + GIB // 2
    root = machine({f"{group}memory.high": f"{2 * GIB}\n"})
    assert available_bytes(root) == GIB + GIB // 2


def test_version_2_takes_the_least_of_all_groups_around(machine):
    tree = "sys/fs/cgroup/"
    root = machine(
        {
            "proc/self/cgroup": "0::/jobs/mine\n",
            f"{tree}jobs/mine/memory.max": "max\n", f"{tree}jobs/mine/memory.current": "100\n",
            f"{tree}jobs/memory.max": f"{3 * GIB}\n", f"{tree}jobs/memory.current": f"{GIB}\n",
            f"{tree}jobs/mine/cpu.max": "max 100000\n", f"{tree}jobs/cpu.max": "50000 100000\n",
        }
    )  # fmt: skip
    assert available_bytes(root) == 2 * GIB
    assert processors(root) == 1


@pytest.mark.parametrize("folder", ["memory", "memory/docker/abc"])
def test_version_1_in_a_container_and_outside(machine, folder):
    """In a container the group that is named is often not to be seen: the top folder is it."""
    root = machine(
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n2:cpu,cpuacct:/docker/abc\n",
            f"sys/fs/cgroup/{folder}/memory.limit_in_bytes": f"{2 * GIB}\n",
            f"sys/fs/cgroup/{folder}/memory.usage_in_bytes": f"{GIB}\n",
            f"sys/fs/cgroup/{folder}/memory.stat": f"inactive_file 7\ntotal_inactive_file {GIB // 4}\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
        }
    )
    assert available_bytes(root) == GIB + GIB // 4
    assert processors(root) == 1


def test_a_group_that_uses_more_than_its_limit_leaves_a_page(machine):
    root = machine({"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "2000\n"})
    assert available_bytes(root) == resource.getpagesize()


def test_processors_are_those_that_the_process_may_run_on(machine):
    assert processors(machine({"sys/fs/cgroup/cpu.max": "max 100000\n"})) == len(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("given", "threads"),
    [("2", 2), ("3,2", 3), (" 2 ", 2), ("9", 4), ("", 4), ("0", 4), ("-1", 4), ("many", 4), ("2.5", 4), ("²", 4)],
)
def test_threads_are_as_many_as_omp_num_threads_allows(monkeypatch, given, threads):
    """Whatever OpenMP would not take counts as unset, as it does for OpenMP."""
    monkeypatch.setattr("fastent.processors.processors", lambda: 4)
    monkeypatch.setattr("fastent.processors._OMP_NUM_THREADS", given)
    assert default_threads() == threads


@pytest.mark.spawn
def test_what_others_set_later_is_not_meant_for_this_process():
    """A LocalCluster of Dask sets OMP_NUM_THREADS=1 for its workers in the process that starts it."""
    code = (
        "import os, fastent\nos.environ['OMP_NUM_THREADS'] = '1'\n"
        "from fastent.processors import default_threads, processors\nprint(default_threads() == processors())"
    )
    clean = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    done = subprocess.run([sys.executable, "-c", code], env=clean, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "True"


@pytest.mark.spawn
@pytest.mark.parametrize(
    ("variables", "threads"),
    [({}, min(2, processors())), ({"OMP_NUM_THREADS": "1"}, 1), ({"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "2"}, 2)],
)
def test_kernels_start_with_as_many_threads_unless_numba_was_told_otherwise(variables, threads):
    code = "from fastent.runtime.threads import working_threads; print(min(2, working_threads()))"
    clean = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | variables, capture_output=True, text=True, timeout=60, check=True
    )
    assert int(done.stdout) == threads


@pytest.mark.spawn
def test_torch_keeps_the_number_that_openmp_was_given():
    """numba gives OpenMP as many threads as there are processors when it starts its own."""
    code = (
        "import torch; from fastent.runtime.threads import limit_threads, working_threads\n"
        "working_threads(); print(torch.get_num_threads())\n"
        "with limit_threads(1): pass\n"
        "print(torch.get_num_threads())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["1", "1"]


@pytest.mark.spawn
@pytest.mark.parametrize(("limit", "least"), [("RLIMIT_AS", 1), ("RLIMIT_DATA", 1)])
def test_limits_of_the_process_count(limit, least):
    code = (
        f"import resource; resource.setrlimit(resource.{limit}, (3 << 30,) * 2)\n"
        "from fastent.runtime.memory import available_bytes; print(available_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert least < int(done.stdout) < 1.5 * GIB
