# Two commands do everything on a fresh Debian 12 machine: 'make demo' and 'make test'. Both set the machine up first.
PROVIDER ?= docker
ARGS ?=
SEED ?= 20261105
BIN := .venv/bin

.PHONY: setup demo test test-full lint bench chaos

setup:  ## the set-up alone; a second run does nothing. PROVIDER=qemu: virtual machines; ARGS=--x86: 32-bit programs, too
	@.ci/setup.sh $(PROVIDER) $(if $(filter setup,$(MAKECMDGOALS)),$(ARGS))

demo: setup  ## the incident, reproduced on the reference lab; ARGS=--quick for the short one
	@$(BIN)/hts-compat demo $(if $(filter qemu,$(PROVIDER)),--provider qemu) $(ARGS)

test:  ## everything that a change has to pass, real guests included
	@.ci/setup.sh $(PROVIDER) --browser
	@$(BIN)/python -m pytest -m "not table" $(ARGS)

test-full:  ## the same, the demo's whole table, and 20 times as many examples of each property
	@.ci/setup.sh $(PROVIDER) --browser
	@$(BIN)/python -m pytest --hypothesis-profile=thorough $(ARGS)

lint: setup  ## style and types alone
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

chaos: setup  ## attacks, each ending non-zero on a wrong verdict, a loss or a leak; SEED=N for other ones
	@set -e; export HTS_CHAOS_SEED=$(SEED) HTS_CHAOS_CUTS=300; \
	$(BIN)/python -m tests.faults.chaos_fakes --seed $(SEED); \
	$(BIN)/python -m tests.faults.chaos_guests --seed $(SEED); \
	$(BIN)/python -m tests.chaos.kill_runs --json --seed $(SEED) --rounds 100; \
	$(BIN)/python -m tests.chaos.kill_runs --json --seed $(SEED) --rounds 6 --guests docker; \
	$(BIN)/python -m pytest -q --timeout 900 tests/stores/test_power_cut.py; \
	$(BIN)/python -m tests.fuzz --seed $(SEED) --inputs 1000000

bench: setup  ## the measurements, one after the other; ARGS=--quick for the short ones
	@set -e; for bench in benchmarks/bench_*.py; do $(BIN)/python "$$bench" --json $(ARGS); done
