# `make demo` and `make test` set up what they need in .venv; nothing has to be installed first but Python >= 3.11.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test long lint docs bench wheel clean

demo: .venv/.installed
	$(BIN)/fastent run --data digits --out demo

test: .venv/.installed-test
	# Two files at a time. Threads that wait for others do not spin: that takes the time of those that work.
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --dist loadfile

# The exactness of the search, on 375 awkward data sets: about an hour.
long: .venv/.installed-test
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest -n 2 --long tests/search/test_exactness.py

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

clean:
	rm -rf .venv build dist demo *.egg-info
