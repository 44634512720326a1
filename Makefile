# Two commands do everything on a fresh Debian 12 machine: 'make demo' and 'make test'. Both set the machine up first.
PROVIDER ?= auto
ARGS ?=
SEED ?= 20261105
BIN := .venv/bin

.PHONY: setup demo test test-full lint bench chaos

setup:  ## the set-up alone; a second run does nothing. PROVIDER=docker, qemu or all; ARGS=--x86: 32-bit programs, too
	@.ci/setup.sh $(PROVIDER) $(if $(filter setup,$(MAKECMDGOALS)),$(ARGS))

demo: setup  ## the incident, reproduced on the reference lab; ARGS=--quick for the short one
	@$(BIN)/hts-compat demo --provider $(patsubst all,auto,$(PROVIDER)) $(ARGS)

test:  ## everything that a change has to pass, real guests included
	@.ci/setup.sh $(patsubst auto,all,$(PROVIDER)) --browser
	@$(BIN)/python -m pytest -m "not table" $(ARGS)

test-full:  ## the same, the demo's whole table on both labs, all ways into a machine, and 20 times as many examples of each property
	@.ci/setup.sh $(patsubst auto,all,$(PROVIDER)) --browser
	@$(BIN)/python -m pytest --hypothesis-profile=thorough $(ARGS)

lint: setup  ## style and types alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

chaos: setup  ## attacks, ending non-zero on a wrong verdict, a loss or a leak; ARGS=--quick for 5 minutes; SEED=N for others
	@$(BIN)/python -m tests.chaos --seed $(SEED) $(ARGS)

bench: setup  ## the measurements, one after the other; ARGS=--quick for the short ones
	@set -e; for bench in benchmarks/bench_*.py; do $(BIN)/python "$$bench" --json $(ARGS); done
