"""The command line: parse, call, print. Each command has a file; what it does is done by the library.

    main.py      the app, its commands in the order of the help, examples, which the tests run
      |-- run.py  measure.py  experiments.py  capture.py  report.py  info.py  bench.py
      |
    options.py       options of several commands, those of training made from `fastent.training.options`;
      |              values that the shell offers; how errors and interruptions end
      |-- config.py           --config: options from a TOML file
    existing_output.py   what a folder named as --out holds already, and when it may be replaced
    output.py            tables that fit the terminal, JSON, what the work has cost

Modules that take long to import (torch, numba, the library's own that need them) are imported by the functions that call them,
so that the help and the shell's completion appear at once.
"""
