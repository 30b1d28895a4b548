"""Each job beside its peers in the same run: every round times ours and then each peer, so that noise falls on all alike."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest

ROUNDS = 5


@pytest.fixture
def side_by_side(benchmark: Any) -> Callable[..., dict[str, float]]:
    """Time `ours` under pytest-benchmark with `peers` in between; keep each peer's median and ratio to ours."""

    def compare(ours: Callable[[], Any], peers: dict[str, Callable[[], Any]], **facts: Any) -> dict[str, float]:
        seconds: dict[str, list[float]] = {name: [] for name in peers}
        own: list[float] = []

        def time_peers() -> None:
            for name, peer in peers.items():
                started = time.perf_counter()
                peer()
                seconds[name].append(time.perf_counter() - started)

        def timed() -> None:
            started = time.perf_counter()
            ours()
            own.append(time.perf_counter() - started)

        benchmark.pedantic(timed, setup=time_peers, rounds=ROUNDS, warmup_rounds=1)
        for times in (own, *seconds.values()):
            del times[0]  # the warm-up
        ratios = {
            name: statistics.median(peer / ours for peer, ours in zip(times, own, strict=True))
            for name, times in seconds.items()
        }
        benchmark.extra_info.update(
            facts
            | {
                "peers": {
                    name: {"median_s": statistics.median(times), "ratio": ratios[name]} for name, times in seconds.items()
                }
            }
        )
        return ratios

    return compare
