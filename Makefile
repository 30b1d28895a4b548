# `make demo` and `make test` set up what they need in .venv; nothing has to be installed first but Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin

# Two workers, each of which takes tests from the other when its own are done. Threads that wait for others do not spin: that
# takes the time of those that work.
PYTEST = OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist worksteal
FAST := 'not (train or large or spawn or site or long)'

.PHONY: demo test test-fast test-long test-uncompiled test-boundscheck test-processors test-minimum lint docs bench grid wheel clean

demo: .venv/.installed
	$(BIN)/fastent run --data digits --out demo

test: .venv/.installed-test
	$(PYTEST)

# While working: no long training, no large data, no processes, no documentation and no browser.
test-fast: .venv/.installed-test
	$(PYTEST) -m $(FAST)

# Overnight: many examples of every property, and the exactness of the search on 375 awkward data sets.
test-long: .venv/.installed-test
	$(PYTEST) -m 'hypothesis or long' --hypothesis-profile long

# Kernels as Python, on few points: which of their lines are met, and what is wrong on the way in a debugger.
test-uncompiled: .venv/.installed-test
	NUMBA_DISABLE_JIT=1 $(PYTEST) tests/test_kernels.py -W ignore::RuntimeWarning --cov=fastent.kernels --cov-report=term-missing

# Kernels that check every index; compiled for minutes the first time. Loops with checks round otherwise, which is seen in the
# seventh digit of silhouettes.
test-boundscheck: .venv/.installed-test
	NUMBA_BOUNDSCHECK=1 FASTENT_CACHE_DIR=$(CURDIR)/build/boundscheck $(PYTEST) -m $(FAST) \
		--deselect tests/statistics/test_silhouette.py::test_a_memory_map_is_read_block_by_block \
		tests/test_kernels.py tests/search tests/statistics tests/measurement

# The search for processors with other vectors; kernels are compiled for each, half a minute the first time.
test-processors: .venv/.installed-test
	$(BIN)/python tests/check_processors.py

# The fast tests with the lowest versions that pyproject.toml allows. They have wheels for Python 3.11 and 3.12 only, and take
# 7 GB of disk, as their torch comes with CUDA. Old versions use what has been deprecated since: that says nothing of fastent.
test-minimum: BIN := .venv-minimum/bin
test-minimum: .venv-minimum/.installed
	FASTENT_CACHE_DIR=$(CURDIR)/build/minimum $(PYTEST) -m $(FAST) -W ignore::DeprecationWarning -W ignore::FutureWarning

lint: .venv/.installed-lint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo --no-cache

# Pages for reading without a network; a warning is an error.
docs: .venv/.installed-docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet docs build/docs
	@echo build/docs/index.html

bench: .venv/.installed-bench
	$(BIN)/python -m bench.run

# Exact neighbours of some 70 kinds and sizes of data beside the strongest exact peer; FASTENT_DATA has the data sets.
grid: .venv/.installed-bench
	$(BIN)/python -m bench.grid

# What a user gets: built, installed in an empty environment, and run outside the repository.
wheel: .venv/.installed-test
	$(BIN)/python -m pip install --quiet -c constraints.txt build
	PYTHON=$(PYTHON) BIN=$(BIN) sh tests/check_wheel.sh

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/.installed: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

.venv/.installed-%: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[$*]'
	touch $@

.venv-minimum/.installed: pyproject.toml constraints-minimum.txt
	$(PYTHON) -m venv --clear .venv-minimum
	.venv-minimum/bin/python -m pip install --quiet -c constraints-minimum.txt -e '.[test]'
	touch $@

clean:
	rm -rf .venv .venv-minimum build dist demo *.egg-info
