"""Compiled kernels are never stale, never fatal, and the same in every process."""

import functools
import importlib
import io
import os
import pickle
import re
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastent.kernels import announcing, cache, compiling, target

import fastent
from fastent import kernels
from fastent.runtime.clock import working_seconds

pytestmark = pytest.mark.spawn

LISI = """
import numpy as np, fastent as fe
near = fe.Neighbors(np.array([[j for j in range(91) if j != r] for r in range(91)]), np.tile(np.linspace(1, 5, 90), (91, 1)))
print(round(float(fe.lisi(near, np.arange(91) // 46)[0]), 3))
"""


def start(code, home=None, cache_dir=None, **environment):
    """A process that imports fastent from a copy, and keeps kernels in a folder."""
    changed = {} if home is None else {"PYTHONPATH": str(home)}
    changed |= {} if cache_dir is None else {"FASTENT_CACHE_DIR": str(cache_dir)}
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NUMBA")}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=home,
        env=kept | changed | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    said, errors = process.communicate()
    assert process.returncode == 0, errors
    return said.strip()


def run(code, home=None, cache_dir=None, **environment):
    return finish(start(code, home, cache_dir, **environment))


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    home = tmp_path_factory.mktemp("home")
    ignored = shutil.ignore_patterns("__pycache__", "kernels")
    shutil.copytree(Path(fastent.__file__).parent, home / "fastent", ignore=ignored)
    shutil.copytree(Path(kernels.__file__).parent, home / "fastent" / "kernels", ignore=ignored)
    return home


SETUP = "import numpy as np, fastent as fe\nX = np.random.default_rng(0).standard_normal((300, 8)).astype('float32')\n"
NEAR = f"{SETUP}print(fe.neighbors(X, 3, method='exact').indices.sum())"
LONG = f"{SETUP}print(fe.neighbors(X, 40, method='exact').indices.sum())"
FEW = f"{SETUP}print(fe.neighbors(X, 3, queries=[5, 250], method='exact').indices.sum())"
RANKED = f"""{SETUP}
from fastent.kernels.lists import rank_candidates
X, none = X[:4].astype(float), np.full(4, -1)
print(rank_candidates(X, np.zeros(4), X, np.zeros(4), none, np.tile(np.arange(4), (4, 1)), 2, %s)[0].sum().round(3))
"""
TRAINED = f"{SETUP}print(fe.train((X, np.arange(300) % 3), seeds=1, epochs=2, hidden=(4,)).radius.sum().round(6))"
JUDGED = """
import numpy as np
from fastent.kernels.held_out import judge
flat, wide, empty = np.zeros((1, 2)), np.zeros((1, 8), "float32"), np.zeros(0, "float32")
network = wide, wide, np.zeros((1, 2, 1), "float32"), np.array([[0, 1]], "float32")
points, wrong = (np.zeros(2, int), np.zeros(0, "int32"), empty, np.zeros(1, int), np.ones(1)), np.zeros((1, 1), bool)
judge(network, points, flat, flat, 0, np.full((1, 1), -np.inf), wrong)
print(wrong[0, 0])
"""
# For each file of kernels: a line of it, what it becomes, and a call, where possible of a kernel in another file, in which that
# makes a difference.
EDITS = {
    "boxes": ("squared[t] *= kept", "squared[t] += np.float32(1e30)", NEAR),
    "differences": ('fcmp_ordered("<=", found, limit)', 'fcmp_ordered(">", found, limit)', FEW),
    "distance": (
        "total += difference * difference",
        "total += 4 * difference * difference",
        "import numpy as np\nfrom fastent.kernels.pairs import square_differences\nout = np.zeros((1, 1))\n"
        "square_differences(np.ones((1, 1)), np.zeros((1, 1)), 0, out)\nprint(out[0, 0])",
    ),
    "exponential": ("return p * _power_of_two(np.int64(n))", "return 1.0 + 0.0 * p * _power_of_two(np.int64(n))", LISI),
    "found": ("return data.ids[point] != found.excluded[query]", "return data.ids[point] == found.excluded[query]", NEAR),
    "head": ("total[i] += factor * values[i]", "total[i] += 2 * factor * values[i]", TRAINED),
    "held_out": ("lost |= other > score", "lost |= other < score", JUDGED),
    "jit": ('"error_model": "numpy"', '"error_model": "python"', RANKED % True),
    "limits": ("return np.floor((apart - reach", "return np.floor((apart + reach", NEAR),
    "lists": ("= distance, neighbour\n", "= distance + 1, neighbour\n", RANKED % False),
    "meeting": ("if squared > farthest", "if squared <= farthest", NEAR),
    "mixing": (
        "+= 1\n", "+= 2\n",
        "import numpy as np\nfrom fastent.kernels.mixing import count_occurrences\n"
        "print(count_occurrences(np.zeros((1, 1), int), np.zeros(1, int), np.zeros(1, int)))",
    ),
    "merging": (
        "its_squared[j], its_index[j] = other_squared[b]", "its_squared[j], its_index[j] = 1 + other_squared[b]",
        "import numpy as np\nfrom fastent.kernels.merging import merge_lists\n"
        "squared, index = np.ones((1, 1)), np.ones((1, 1), int)\n"
        "merge_lists(squared, index, np.zeros((1, 1)), np.zeros((1, 1), int))\nprint(squared)",
    ),
    "moments": (
        "sums[j] += deviation\n", "sums[j] += 2 * deviation\n",
        "import numpy as np, fastent as fe\nmoments = fe.ClassMoments(3, 4)\n"
        "moments.update(np.random.default_rng(0).standard_normal((66, 4)), np.arange(66) % 3)\nprint(moments.means)",
    ),
    "monotone": (
        "return total / (", "return 2 * total / (",
        "import numpy as np\nfrom fastent.kernels.monotone import second_differences\n"
        "print(second_differences(np.arange(30.0) ** 2, 3))",
    ),
    "pairs": (
        "its_squared[first + j] = squared_distance(row, others[j])", "its_squared[first + j] = 7.0",
        "import numpy as np\nfrom fastent.kernels.pairs import square_differences\nout = np.zeros((1, 1))\n"
        "square_differences(np.ones((1, 1)), np.zeros((1, 1)), 0, out)\nprint(out[0, 0])",
    ),
    "products": ('icmp_signed(">=", some, its_limit)', 'icmp_signed("<", some, its_limit)', NEAR),
    "quantized": ("squares[t] += whole * whole", "squares[t] += 4 * whole * whole", NEAR),
    "radii": ("bound = np.sqrt(squared if squared > 0 else 0.0) + other_error", "bound = 0.0 * squared * other_error", LONG),
    "recording": ("total += np.float64(values[i]) * weights[i]", "total += 2 * np.float64(values[i]) * weights[i]", TRAINED),
    "reach": (
        "squared[c] * kept <= limit", "squared[c] * kept > limit",
        "import numpy as np\nfrom fastent.kernels.reach import boxes_within\n"
        "one = np.ones((1, 1), np.float32)\nprint(boxes_within(one, one[0], one, one))",
    ),
    "scan": ("return radius * radius * tolerance.factor + tolerance.lost", "return -1.0 + 0.0 * radius", FEW),
    "search": ("if to_box[t] <= radius", "if to_box[t] >= radius", NEAR),
    "selection": ("keys[s] <= middle", "keys[s] >= middle", LONG),
    "spanning": (
        "chosen[c] = i\n", "chosen[c] = i + 7\n",
        "import numpy as np\nfrom fastent.kernels.spanning import shortest_edges\n"
        "print(shortest_edges(np.arange(2), 2, np.ones(2), np.array([1, 0])))",
    ),
    "sparse": (
        "row[i] != common", "row[i] == common",
        "import numpy as np\nfrom fastent.kernels.sparse import count_entries\nprint(count_entries(np.ones((1, 1)), np.zeros(1)))",
    ),
    "tree": (
        "if variance > widest:", "if -variance > widest:",
        f"{SETUP}from fastent.kernels.tree import cut_into_tiles\nprint(cut_into_tiles(X)[:128].sum())",
    ),
    "vectors": ("value, number(0))", "ir.Constant(value.type, 0), number(0))", NEAR),
}  # fmt: skip


@pytest.fixture(scope="module")
def unedited(copy, tmp_path_factory):
    """What a call finds with the kernels as they are, and the cache that it fills; several tests ask for one call."""

    @functools.cache
    def called(call):
        folder = tmp_path_factory.mktemp("cache")
        return run(call, copy, folder), folder

    return called


def one_of_each_call():
    """Files that show in the same call are compiled together, for up to ten seconds: the first here, the others overnight.

    That the cache depends on each file is what `test_every_file_of_kernels_counts` is about.
    """
    asked = set()
    for file, (_, _, call) in EDITS.items():
        yield pytest.param(file, marks=[pytest.mark.long] if call in asked else [])
        asked.add(call)


@pytest.mark.large
@pytest.mark.parametrize("file", list(one_of_each_call()))
def test_an_edited_kernel_is_compiled_anew(file, copy, tmp_path, unedited):
    line, edited, call = EDITS[file]
    source = copy / "fastent" / "kernels" / f"{file}.py"
    text = source.read_text()
    assert line in text
    before, filled = unedited(call)
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    source.write_text(text.replace(line, edited))
    try:
        after = start(call, copy, tmp_path)
        errors = after.communicate()
        assert errors[0].strip() != before, "the old code"
        assert after.returncode == 0 or (file == "jit" and "ZeroDivisionError" in errors[1]), errors[1]
    finally:
        source.write_text(text)


def test_every_file_of_kernels_counts(tmp_path, monkeypatch):
    own = Path(kernels.__file__).parent
    sources = sorted(source.name for source in own.glob("*.py"))
    assert set(EDITS) <= {name.removesuffix(".py") for name in sources}
    shutil.copytree(own, tmp_path / "kernels")
    monkeypatch.setattr(target, "files", lambda package: tmp_path / "kernels")
    monkeypatch.setattr(target, "_SOURCES", target._read_sources())
    uncached = target.digest.__wrapped__
    before = uncached(target.own_target())
    for name in sources:
        with (tmp_path / "kernels" / name).open("a") as file:
            file.write("\n")
        monkeypatch.setattr(target, "_SOURCES", target._read_sources())
        assert uncached(target.own_target()) != before, name
        shutil.copy(own / name, tmp_path / "kernels")
    monkeypatch.setattr(target, "_SOURCES", target._read_sources())
    assert uncached(target.own_target()) == before


def test_a_link_of_an_editor_is_no_source(tmp_path, monkeypatch):
    (tmp_path / "jit.py").write_text("")
    (tmp_path / ".#jit.py").symlink_to("me@host.123")
    monkeypatch.setattr(target, "files", lambda package: tmp_path)
    assert list(target._read_sources()) == ["jit.py"]


def test_without_sources_nothing_is_kept(monkeypatch):
    monkeypatch.setattr(target, "_SOURCES", {})
    monkeypatch.setattr(target, "_read_sources", dict)
    monkeypatch.setattr(target._Change, "seen", False)
    assert target.sources_changed()


def test_the_target_and_the_options_count(monkeypatch):
    uncached = target.digest.__wrapped__
    here = target.own_target()
    assert uncached(here) != uncached(here._replace(processor="generic"))
    assert uncached(here) != uncached(here._replace(features=""))
    monkeypatch.setattr(target.config, "BOUNDSCHECK", 1)
    assert uncached(target.own_target()) != uncached(here)


DAMAGE = {
    "emptied": lambda file: file.write_bytes(b""),
    "cut": lambda file: os.truncate(file, 100),
    "overwritten": lambda file: file.write_bytes(os.urandom(file.stat().st_size)),
    "one byte": lambda file: file.write_bytes(file.read_bytes()[:-1] + b"x"),
    "a folder": lambda file: (file.unlink(), file.mkdir()),
}


def test_a_damaged_entry_is_compiled_and_written_again(tmp_path):
    right = run(LISI, cache_dir=tmp_path)
    files = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert files
    for name, damage in DAMAGE.items():
        for file in files:
            damage(file)
        assert run(LISI, cache_dir=tmp_path) == right, name
        assert all(cache._read(file) for file in files), name


def test_an_entry_that_is_whole_and_wrong(tmp_path, monkeypatch):
    """As of another kernel under this one's name, or written by something else."""
    monkeypatch.setenv("FASTENT_CACHE_DIR", str(tmp_path))

    @compiling_kernel
    def twice(x):
        return 2 * x

    assert twice(3) == 6
    (file,) = tmp_path.rglob("*twice*")
    for entry in (b"no pickle", cache.dumps(("no", "compiled", "kernel"))):
        cache.own_folder().write(file.name, entry)
        again = compiling_kernel(twice.py_func)
        assert again(3) == 6
        assert sum(again.stats.cache_hits.values()) == 0
    again = compiling_kernel(twice.py_func)
    assert again(3) == 6
    assert sum(again.stats.cache_hits.values()) == 1


def compiling_kernel(function):
    return compiling.Kernel(function)


@pytest.mark.large
def test_six_processes_at_once(tmp_path):
    processes = [start(LISI, cache_dir=tmp_path) for _ in range(6)]
    assert len({finish(process) for process in processes}) == 1
    assert not [file for file in tmp_path.rglob("*") if file.name.count(".") > 1]  # what was written aside has been moved
    assert run(
        f"{LISI}\nfrom fastent.kernels.compiling import compile_seconds\nprint(compile_seconds())", cache_dir=tmp_path
    ).endswith("0.0")


def test_what_is_outdated_is_removed(tmp_path, monkeypatch):
    monkeypatch.setenv("FASTENT_CACHE_DIR", str(tmp_path))
    here = target.own_target()
    folder = cache.CacheFolder(tmp_path, here)
    own, _ = folder.path.name.split("-")
    outdated, of_others, forgotten = (tmp_path / f"{begin}-{'0' * 16}" for begin in (own, "1" * 12, "2" * 12))
    not_ours = tmp_path / "precious"
    for other in (outdated, of_others, forgotten, not_ours):
        other.mkdir()
        (other / "entry").touch()
    for other in (forgotten, not_ours):
        os.utime(other, (0, 0))
    folder.write("entry", b"content")
    assert {path.name for path in tmp_path.iterdir()} == {folder.path.name, of_others.name, "precious"}


def test_options_of_the_compiler_have_folders_of_their_own(tmp_path, monkeypatch):
    """Neither run removes what the other keeps."""
    here = target.own_target()
    monkeypatch.setattr(target.config, "BOUNDSCHECK", 1)
    checked = cache.CacheFolder(tmp_path, target.own_target())
    cache.CacheFolder(tmp_path, here).write("entry", b"content")
    checked.write("entry", b"content")
    assert len(list(tmp_path.iterdir())) == 2


EDITED_MEANWHILE = """
from pathlib import Path
import fastent.kernels.moments
source = Path(fastent.kernels.moments.__file__).with_name("monotone.py")
text = source.read_text()
source.write_text(text.replace("return total / (", "return 2 * total / ("))
import numpy as np
from fastent.kernels.monotone import second_differences
{when}
print(second_differences(np.arange(30.0) ** 2, 3))
source.write_text(text)
"""


@pytest.mark.parametrize("when", ["", "source.write_text(text)"], ids=["while it is called", "while it is imported"])
def test_a_file_that_changes_while_a_process_runs(copy, tmp_path, when):
    call = EDITS["monotone"][2]
    before = float(run(call, copy, tmp_path / "filled"))
    assert float(run(EDITED_MEANWHILE.format(when=when), copy, tmp_path / "filled")) == 2 * before
    assert float(run(EDITED_MEANWHILE.format(when=when), copy, tmp_path / "empty")) == 2 * before
    assert float(run(call, copy, tmp_path / "filled")) == before
    assert float(run(call, copy, tmp_path / "empty")) == before


SUMS = """
import hashlib, sys
import numpy as np, fastent as fe
from fastent.kernels.compiling import compile_seconds
found = hashlib.sha256()
X, y = np.random.default_rng(0).standard_normal((500, 40)).astype("float32"), np.arange(500) % 4
found.update(repr(sorted(fe.measure(X, y).summary().items())).encode())
near = fe.neighbors(X, 5, metric="cosine")
found.update(near.indices.tobytes() + near.distances.tobytes())
run = fe.train((X, y), seeds=2, epochs=20, hidden=(8,))
found.update(run.radius.tobytes() + run.distance.tobytes())
print(found.hexdigest(), compile_seconds() > 0)
"""


@pytest.mark.large
def test_the_process_that_compiles_finds_the_same_bits(tmp_path):
    first, second = (run(SUMS, cache_dir=tmp_path).split() for _ in range(2))
    assert first[1] == "True"
    assert second[1] == "False"
    assert first[0] == second[0]


def test_nothing_is_written_beside_the_package(copy, tmp_path):
    """Cache files there would outlive what pip removes, and be taken for a package."""
    before = {path for path in copy.rglob("*") if path.name != "__pycache__"}
    run(LISI, copy, tmp_path)
    assert {path for path in copy.rglob("*") if path.name != "__pycache__" and path.suffix != ".pyc"} == before


def test_without_a_place_to_write_one_line_says_so(tmp_path):
    (tmp_path / "file").touch()
    code = "import warnings\nwith warnings.catch_warnings(record=True) as caught:\n    warnings.simplefilter('always')\n    "
    code += LISI.strip().replace("\n", "\n    ") + "\nprint(len(caught), caught[0].message, caught[0].filename)"
    said = run(code, cache_dir=tmp_path / "file").split("\n")[-1]
    assert said.startswith("1 kernels are compiled anew in every process, because ")
    assert "FASTENT_CACHE_DIR" in said
    assert said.endswith(" <string>")  # the line that called fastent
    assert "no home folder is known" in run(code, cache_dir="", HOME="", XDG_CACHE_HOME="")


def test_where_kernels_are_kept(monkeypatch, tmp_path):
    for name in ("FASTENT_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / ".cache" / "fastent"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "wide"))
    assert cache.cache_folder() == tmp_path / "wide" / "fastent"
    monkeypatch.setenv("FASTENT_CACHE_DIR", str(tmp_path / "own"))
    assert cache.cache_folder() == tmp_path / "own"
    monkeypatch.setenv("FASTENT_CACHE_DIR", "~/own")
    assert cache.cache_folder() == tmp_path / "own"
    monkeypatch.setenv("FASTENT_CACHE_DIR", "relative of this test")
    monkeypatch.chdir(tmp_path)
    assert cache.cache_folder() == tmp_path / "relative of this test"
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    assert cache.cache_folder() == tmp_path / "relative of this test"
    monkeypatch.setenv("FASTENT_CACHE_DIR", "")
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")  # which its specification says to ignore
    assert cache.cache_folder() == tmp_path / ".cache" / "fastent"
    monkeypatch.setenv("HOME", "")
    assert cache.cache_folder() is None


def test_a_step_is_not_for_python():
    step = compiling.Step(lambda x: x + 1)
    with pytest.raises(TypeError, match="only kernels can call it"):
        step(1)


def test_kernels_are_pickled_by_name():
    from fastent.kernels.monotone import second_differences

    assert pickle.loads(pickle.dumps(second_differences)) is second_differences


def test_kernels_call_steps_and_no_kernels():
    """A kernel within a kernel would be compiled twice."""
    for source in Path(kernels.__file__).parent.glob("*.py"):
        module = importlib.import_module(f"fastent.kernels.{source.stem}")
        for name, value in vars(module).items():
            if isinstance(value, compiling.Kernel | compiling.Step) and value.py_func.__module__ == module.__name__:
                called = [value.py_func.__globals__.get(used) for used in value.py_func.__code__.co_names]
                assert not [other for other in called if isinstance(other, compiling.Kernel)], name


def test_work_is_timed_without_compilation(monkeypatch):
    monkeypatch.setattr(compiling, "compile_seconds", lambda: 0.0)
    before = working_seconds()
    monkeypatch.setattr(compiling, "compile_seconds", lambda: 1000.0)
    assert -1000 <= working_seconds() - before < -900


class Terminal(io.StringIO):
    def isatty(self):
        return True


def announced(monkeypatch, stream, *, compiled_before, kernels=1, seconds=0.0):
    """What is said while kernels are compiled."""
    monkeypatch.setattr(sys, "stderr", stream)
    announcer = announcing.Announcer(compiling.Kernel)
    announcer._state = compiled_before, None
    happening = SimpleNamespace(data={"dispatcher": compiling.Kernel(announced)})
    for _ in range(kernels):
        announcer.on_start(happening)
        time.sleep(seconds)
        announcer.on_end(happening)
    assert announcer.seconds() >= compiled_before + kernels * seconds
    return stream.getvalue()


def test_long_compilation_is_announced_once(monkeypatch):
    said = announced(monkeypatch, io.StringIO(), compiled_before=1.0, kernels=3, seconds=0.1)
    assert re.fullmatch(r"fastent: compiling kernels for this machine, once, about \d+ s\n", said)


def test_short_compilation_is_not_announced(monkeypatch):
    monkeypatch.setattr(announcing, "_QUIET_SECONDS", 1000)
    assert announced(monkeypatch, io.StringIO(), compiled_before=0.0) == ""


def test_a_terminal_has_a_bar_that_goes(monkeypatch):
    monkeypatch.setattr(announcing, "_REDRAW_SECONDS", 0.001)
    said = announced(monkeypatch, Terminal(), compiled_before=2.0, seconds=0.3)
    assert re.search(r"\r\[#+ +\] \d+ s\r +\r$", said)


@pytest.mark.parametrize("seconds", [0.0, 0.1])
def test_an_odd_stderr_is_no_obstacle(monkeypatch, seconds):
    said = io.StringIO()
    announced(monkeypatch, SimpleNamespace(write=said.write, getvalue=said.getvalue), compiled_before=2.0, seconds=seconds)


def test_without_a_thread_nothing_is_said(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)
    assert announced(monkeypatch, io.StringIO(), compiled_before=2.0, seconds=0.01) == ""


def test_without_a_stderr_nothing_is_said(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    announcer = announcing.Announcer(compiling.Kernel)
    announcer._state = 2.0, None
    happening = SimpleNamespace(data={"dispatcher": compiling.Kernel(announced)})
    announcer.on_start(happening)
    announcer.on_end(happening)


def test_what_others_compile_is_not_ours(monkeypatch):
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    announcer = announcing.Announcer(compiling.Kernel)
    announcer._state = 2.0, None
    happening = SimpleNamespace(data={"dispatcher": compiling.Step(announced)})
    announcer.on_start(happening)
    announcer.on_end(happening)
    assert announcer.seconds() == 2.0
    assert sys.stderr.getvalue() == ""
