"""`fastent info`: what is installed here, and on what it runs."""

import sys

from fastent.cli.options import AsJson
from fastent.cli.output import print_json, show
from fastent.runtime.terminal import text_table

__all__ = ["info"]

_PACKAGES = ("fastent", "numpy", "numba", "torch", "scikit-learn", "pyarrow")
_SIMD = ("sse4.2", "avx", "avx2", "fma", "avx512f", "avx512bw", "neon", "sve")


def info(as_json: AsJson = False) -> None:
    """Print versions, threads, SIMD, devices, and where compiled kernels come from and are kept."""
    from importlib.metadata import version

    import llvmlite.binding as llvm
    import torch

    from fastent.kernels.cache import own_folder
    from fastent.kernels.prebuilt import best_set
    from fastent.runtime.memory import available_bytes, readable_bytes
    from fastent.runtime.threads import working_threads

    features = llvm.get_host_cpu_features()
    versions = {name: version(name) for name in _PACKAGES} | {"python": sys.version.split()[0]}
    simd = [name for name in _SIMD if features.get(name)]
    threads = {"kernels": working_threads(), "torch": torch.get_num_threads()}
    devices = ["cpu", *(f"cuda:{i} {torch.cuda.get_device_name(i)}" for i in range(torch.cuda.device_count()))]
    prebuilt, cache = best_set(), own_folder()
    if as_json:
        print_json(
            {
                "versions": versions, "processor": llvm.get_host_cpu_name(), "simd": simd, "threads": threads,
                "devices": devices, "memory_available": available_bytes(), "kernel_cache": str(cache.path) if cache else None,
                "prebuilt_kernels": str(prebuilt) if prebuilt else None,
            }
        )  # fmt: skip
        return
    rows = versions | {
        "processor": llvm.get_host_cpu_name(),
        "SIMD": " ".join(simd) or "none found",
        "threads": ", ".join(f"{name} {number}" for name, number in threads.items()),
        "devices": ", ".join(devices),
        "memory": f"{readable_bytes(available_bytes())} available",
        "kernel cache": "none (no home folder)"
        if cache is None
        else f"{cache.path}{'' if cache.writable() else ' (not writable)'}",
        "prebuilt kernels": prebuilt.name if prebuilt else "none for this installation and processor",
    }
    table = text_table("", ("", ""), list(rows.items()))
    table.show_header, table.box, table.columns[1].justify = False, None, "left"
    show(table)
