"""The machine and the session that work runs in; nothing here knows what is measured.

    What there is                       What work may use of it              How it is shared out
    fastent.processors: processors,     memory: check_fits, before work      threads: limit_threads, in_parallel
       limits of containers                                                  cluster: map_on_cluster (Dask, or here)

    What the user sees                  How work ends early
    progress: a bar or a callback       progress.interruptible: stop where the state is whole
    formatting: numbers, HTML, JSON     interrupts: Ctrl-C ends the command with status 130
    clock: seconds of work                 allocator: what workers free, kept while work goes on
    terminal: tables

    optional: packages that are not installed with fastent, named when they are missing

`import fastent` must stay light: of this room it imports `interrupts` alone, and that only for the command; torch, numba and
distributed are imported inside functions. Kernels take their number of threads from `kernels.sharing`, which `threads` sets
together with those of torch, OpenMP and BLAS.
"""
