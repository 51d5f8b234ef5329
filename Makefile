# Everything runs in .venv, which `make setup` makes from constraints.txt. `make help` lists the targets.
PYTHON ?= python3.11
VENV := .venv/bin
SOURCES := gatewright tests benchmarks examples tools
# Two test processes on a machine of two cores; each keeps its numerical libraries to one thread.
JOBS ?= auto
TESTS ?=

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-all lint format bench clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

setup: ## make or repair .venv; does nothing when it is current
	@$(PYTHON) tools/setup.py

demo: setup ## train a digit classifier, compile it, verify it on every bit, synthesise it
	@$(VENV)/python examples/digits.py

test: setup ## the test suite; TESTS='-k name' narrows it
	@$(VENV)/python -m pytest -n $(JOBS) --dist worksteal -m "not slow" $(TESTS)

test-all: setup ## the test suite with its slow tests
	@$(VENV)/python -m pytest -n $(JOBS) --dist worksteal $(TESTS)

lint: setup ## ruff, pyright, and every hardware cell through Verilator, Yosys and slang
	@$(VENV)/ruff check $(SOURCES)
	@$(VENV)/ruff format --check $(SOURCES)
	@$(VENV)/pyright
	@$(VENV)/python tools/lint_templates.py

format: setup ## let ruff format and repair what it can
	@$(VENV)/ruff check --fix $(SOURCES)
	@$(VENV)/ruff format $(SOURCES)

bench: setup ## run the benchmarks and print their table; BENCHMARKS='name ...' narrows it
	@$(VENV)/python -c "from importlib.util import find_spec; exit(not all(map(find_spec, ('brevitas', 'torchao'))))" || \
		$(VENV)/python -m pip install -qq -c constraints.txt -e '.[bench]'
	@$(VENV)/python -m benchmarks $(BENCHMARKS)

clean: ## remove what the tools left, but not .venv
	rm -rf build sim_build .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
