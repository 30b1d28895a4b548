"""Calls of several threads, in forked children, and what they leave behind."""

import copy
import os
import pickle
import subprocess
import sys
import threading
import time
import types

import cloudpickle
import numpy as np
import pytest
import torch
from fastent.kernels.sharing import working_threads
from torch import nn

import fastent as fe
from fastent.runtime.threads import DisjointPairs, limit_threads, shared_out, single_blas_thread

BLOBS = """
import os, sys, threading
import numpy as np
import fastent as fe
rng = np.random.default_rng(0)
X, y = rng.standard_normal((1500, 12)).astype("f4"), np.arange(1500) % 3
def found():
    near = fe.neighbors(X, 8)
    return near.distances.sum(), fe.mixing(near, y).overlap, fe.lisi(near, y, perplexity=2).sum(), fe.geometry(X, y).fisher
"""


def python(code, **variables):
    done = subprocess.run([sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, timeout=150)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.spawn
@pytest.mark.parametrize("layer", ["workqueue", "omp"])
def test_calls_of_several_threads_and_of_forked_children_find_what_one_finds(layer):
    code = BLOBS + (
        "import multiprocessing\n"
        "alone, others = found(), []\n"
        "threads = [threading.Thread(target=lambda: others.append(found())) for _ in range(4)]\n"
        "[t.start() for t in threads], [t.join() for t in threads]\n"
        "assert others == [alone] * 4, (alone, others)\n"
        "def work(i): return found()\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    assert pool.map_async(work, range(3)).get(timeout=60) == [alone] * 3\n"
        "print('same')\n"
    )
    assert python(code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="2") == "same\n"


@pytest.mark.train
@pytest.mark.spawn
def test_a_forked_child_trains_after_its_parent_has_used_all_threads():
    """GNU's OpenMP waits for ever for threads that only the parent has: the child does without."""
    code = BLOBS + (
        "import torch\n"
        "a = torch.rand(1500, 1500)\n"
        "def job(): return fe.train((X, y), seeds=2, epochs=3, hidden=(400,), classes='all', threads=2).radius.shape\n"
        "a @ a, a.exp(), job()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    assert job() == (2, 4, 1, 3)\n"
        "    assert (a @ a).shape == (1500, 1500)\n"
        "    os._exit(0)\n"
        "print(os.waitpid(child, 0)[1])\n"
    )
    assert python(code, NUMBA_NUM_THREADS="2") == "0\n"


@pytest.mark.spawn
def test_a_child_of_a_parent_that_was_compiling_says_so():
    code = (
        "import os, threading, numpy as np, fastent as fe\n"
        "from fastent.kernels import sharing\n"
        "from numba import njit\n"
        "from numba.core.compiler_lock import global_compiler_lock\n"
        "sharing._FORK_SECONDS = 0.1\n"
        "held, done = threading.Event(), threading.Event()\n"
        "def compiling():\n"
        "    with global_compiler_lock:\n"
        "        held.set(); done.wait()\n"
        "threading.Thread(target=compiling).start(); held.wait()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    try: njit(lambda x: x + 1)(1)\n"
        "    except fe.FastentError as error: os._exit(0 if 'spawn' in str(error) else 1)\n"
        "    os._exit(2)\n"
        "print(os.waitpid(child, 0)[1]); done.set()\n"
        "assert njit(lambda x: x + 1)(1) == 2\n"
    )
    assert python(code) == "0\n"


def blas_threads():
    from threadpoolctl import threadpool_info

    return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]


def test_limits_of_overlapping_calls_are_undone_in_whatever_order_they_end():
    before, of_torch, of_kernels = blas_threads(), torch.get_num_threads(), working_threads()
    seen = {}
    entered, leave = {n: threading.Event() for n in (1, 2)}, {n: threading.Event() for n in (1, 2)}

    def call(n, threads):
        own = torch.get_num_threads(), working_threads()
        with limit_threads(threads):
            seen[n] = torch.get_num_threads(), working_threads()
            entered[n].set()
            leave[n].wait()
        assert (torch.get_num_threads(), working_threads()) == own
        seen[f"after {n}"] = blas_threads()

    first, second = threading.Thread(target=call, args=(1, 1)), threading.Thread(target=call, args=(2, 1))
    first.start(), entered[1].wait()
    second.start(), entered[2].wait()
    new = []
    newcomer = threading.Thread(target=lambda: new.append(torch.get_num_threads()))
    newcomer.start(), newcomer.join()
    leave[1].set(), first.join()
    leave[2].set(), second.join()
    assert seen[1] == seen[2] == (1, 1)
    assert set(seen["after 1"]) == {1}
    assert seen["after 2"] == before
    assert new == [of_torch], "a thread that first uses torch meanwhile is not bound by others' limits"
    assert (torch.get_num_threads(), working_threads()) == (of_torch, of_kernels)


def test_one_thread_in_blas_does_not_end_with_the_first_who_asked():
    before = blas_threads()
    outer = single_blas_thread()
    outer.__enter__()
    with single_blas_thread():
        outer.__exit__(None, None, None)
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def dropping():
    return nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Dropout(0.4), nn.Linear(16, 2))


def test_training_draws_from_generators_of_its_own():
    """Another thread that seeds and draws all the time changes nothing, and finds its own numbers."""
    rng = np.random.default_rng(0)
    data = (rng.standard_normal((60, 6)).astype(np.float32), np.arange(60) % 2)
    torch.manual_seed(7)
    state = torch.get_rng_state()

    def radii():
        one = fe.train(data, model=dropping, seeds=2, epochs=3, classes="all").radius
        other = fe.train_streamed(*data, model=dropping, seeds=1, epochs=2, batch_size=20, queries=5).radius
        return one.tobytes(), other.tobytes()

    alone = radii()
    assert torch.equal(torch.get_rng_state(), state)
    stop, interval = threading.Event(), sys.getswitchinterval()

    def draw():
        while not stop.is_set():
            torch.manual_seed(1)
            torch.rand(3)

    noise = threading.Thread(target=draw)
    try:
        sys.setswitchinterval(1e-4)
        noise.start()
        assert [radii() for _ in range(3)] == [alone] * 3
    finally:
        stop.set()
        noise.join()
        sys.setswitchinterval(interval)


def test_a_factory_that_sets_the_seed_itself_gets_its_own():
    from fastent.training.networks import make_network

    def seeded():
        torch.manual_seed(3)
        return nn.Linear(4, 4)

    wanted = seeded()
    torch.manual_seed(11)
    state = torch.get_rng_state()
    assert torch.equal(make_network(seeded, 5).weight, wanted.weight)
    assert torch.equal(torch.get_rng_state(), state)


def test_every_way_to_draw_finds_what_the_global_generator_would():
    from fastent.training.drawing import made_with

    ways = [
        lambda: torch.rand(4), lambda: torch.randn(40, 3), lambda: torch.randint(9, (5,)), lambda: torch.randint(2, 9, (5,)),
        lambda: torch.randperm(20), lambda: torch.randn_like(torch.zeros(9)), lambda: torch.rand(4, out=torch.empty(4)),
        lambda: torch.normal(torch.zeros(4), 1.0), lambda: torch.multinomial(torch.ones(9), 4), lambda: torch.empty(9).exponential_(),
        lambda: torch.distributions.Gamma(2.0, 1.0).sample((3,)), lambda: nn.functional.dropout(torch.ones(50)),
        lambda: nn.init.orthogonal_(torch.empty(5, 4)), lambda: nn.LSTM(3, 4).weight_hh_l0, lambda: nn.Conv2d(2, 3, 3).bias,
    ]  # fmt: skip
    for way in ways:
        torch.manual_seed(5)
        wanted = way()
        torch.manual_seed(6)
        assert torch.equal(made_with(5, way), wanted)


def test_functions_that_use_the_package_can_be_sent():
    assert cloudpickle.loads(cloudpickle.dumps(lambda: fe))() is fe
    assert isinstance(fe, types.ModuleType)


def test_results_survive_copying_and_sending():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((90, 5)), np.arange(90) % 3
    near = fe.neighbors(X, 5)
    moments = fe.ClassMoments(3, 5)
    moments.update(X, y)
    results = [
        near, fe.mixing(near, y), fe.geometry(X, y), fe.margins(X, y), fe.complexity(X, y), fe.silhouette(X, y),
        fe.intrinsic_dimension(near), fe.soft_nearest_neighbor_loss(X, y), fe.measure(X, y), moments, fe.ArraySource(X),
        fe.train((X, y), seeds=1, epochs=25, classes="all"),
    ]  # fmt: skip
    for result in results:
        for made in (pickle.loads(pickle.dumps(result)), copy.copy(result), copy.deepcopy(result)):
            assert type(made) is type(result)
            assert repr(made) == repr(result) or "object at" in repr(result)
    assert np.array_equal(pickle.loads(pickle.dumps(moments)).means, moments.means)


def test_pairs_are_shared_out_once_and_no_block_to_two_threads(monkeypatch):
    monkeypatch.setattr("fastent.runtime.threads.working_threads", lambda: 5)
    pairs, busy, met, lock, together = DisjointPairs(9), set(), [], threading.Lock(), []

    def meet(pair):
        with lock:
            assert busy.isdisjoint(pair)
            busy.update(pair)
            together.append(len(busy))
        time.sleep(0.0005 * (1 + sum(pair) % 3))
        with lock:
            busy.difference_update(pair)
        pairs.free(pair)
        return pair

    shared_out(meet, pairs, met.append, lambda: None)
    assert sorted(met) == [(i, j) for i in range(9) for j in range(i, 9)]
    assert len(met) == len(pairs)
    assert max(together) > 2


@pytest.mark.parametrize("fails", ["work", "watch", "add", "items"])
def test_what_goes_wrong_ends_shared_work_and_is_raised(fails, monkeypatch):
    """In threads that wait for each other's blocks, too."""
    monkeypatch.setattr("fastent.runtime.threads.working_threads", lambda: 3)
    monkeypatch.setattr("fastent.runtime.threads._LOOK_SECONDS", 0.01)
    pairs, begun = DisjointPairs(60), []

    def fail(now):
        if now:
            raise RuntimeError(fails)

    def items():
        for pair in pairs:
            yield pair
            fail(fails == "items" and len(begun) > 20)

    def meet(pair):
        try:
            begun.append(pair)
            time.sleep(0.001)
            fail(fails == "work" and len(begun) > 20)
        finally:
            pairs.free(pair)

    with pytest.raises(RuntimeError, match=fails):
        shared_out(
            meet,
            items(),
            lambda _: fail(fails == "add" and len(begun) > 20),
            lambda: fail(fails == "watch" and len(begun) > 20),
        )
    ended = len(begun)
    assert 20 < ended < len(pairs)
    time.sleep(0.02)
    assert len(begun) == ended
