# `make run`: set up, then train, score and register a GAN.   `make test`: set up, then all tests.
# Also: make check | bench | pictures | ui [MLFLOW_PORT=...] [PREFECT_PORT=...] | worker | advise [DATA=...]
#       make preset [NAME=...] [DATA=...] | rebuild [MODEL=...] [FOLDER=...] | disk | free | lock | clean

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.requirements-$(shell sha256sum requirements.lock | cut -c1-16)
# A virtual environment names its place in many files, so that of a project that was moved or copied is made anew.
MOVED := $(shell cd $(VENV) 2>/dev/null && grep -q "^command = " pyvenv.cfg && ! grep -qF " $$(pwd -P)" pyvenv.cfg && echo moved)
ifdef MOVED
.PHONY: $(READY)
endif

# A user id without a name, as containers have, gets its number for one.
export LOGNAME := $(or $(LOGNAME),$(USER),$(shell id -un 2>/dev/null || id -u))
export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.PHONY: run test check bench pictures ui worker advise preset rebuild disk free lock clean

run: $(READY)
	@$(BIN)/python -m flows

test: $(READY)
	@# two processes, each with about half of the work; the output of the second is printed once the first has ended
	@output=$$(mktemp); trap 'kill $$second; rm -f $$output; exit 130' INT TERM; \
	$(BIN)/python -m pytest -m "not pipeline" >$$output 2>&1 & second=$$!; \
	$(BIN)/python -m pytest -m pipeline; status=$$?; \
	wait $$second || status=$$?; cat $$output; rm $$output; exit $$status

check: $(READY)
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy
	$(BIN)/python -m pydoclint.main gan_core mlops stages commands experiments flows deploy benchmarks
	$(BIN)/python -m pytest tests/test_architecture.py

bench: $(READY)
	@$(BIN)/python -m benchmarks --page docs/benchmarks.md

pictures: $(READY)
	@$(BIN)/python -m benchmarks.pictures

$(READY):
	@if [ "$(MOVED)" ] && [ -L $(VENV) ]; then \
		echo "error: the virtual environment to which .venv is a link was moved; delete the link" >&2; exit 1; fi
	@{ [ -z "$(MOVED)" ] && $(BIN)/python -m pip --version >/dev/null 2>&1; } || \
		$(PYTHON) -m venv $(if $(MOVED),--clear) $(VENV)
	@echo "setting up $(VENV): 7 GB, some minutes"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@# prefect's docstring_parser and pydoclint's fork of it share one folder; the fork serves both, so it comes last
	@sed -n '/^docstring-parser-fork==/,/[^\]$$/p' requirements.lock | $(BIN)/python -m pip install --quiet \
		--disable-pip-version-check --require-hashes --no-deps --force-reinstall -r /dev/stdin
	@touch $@

lock:
	@place=$$(mktemp -d) && trap 'rm -rf $$place' EXIT && $(PYTHON) -m venv $$place && \
	$$place/bin/python -m pip install --quiet --disable-pip-version-check pip-tools==7.6.2 && \
	CUSTOM_COMPILE_COMMAND="make lock" $$place/bin/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras \
		--no-annotate --no-emit-options --output-file requirements.lock requirements.txt

ui: $(READY)
	@$(BIN)/python -m commands.ui

worker: $(READY)
	@$(BIN)/python -m flows.worker

# What a user types arrives as it is: make does not expand it, and no shell reads it.
preset: export override NAME := $(value NAME)
preset: export override DATA := $(value DATA)
preset: $(READY)
	@$(BIN)/python -m commands.preset -- "$$NAME" $${DATA:+"$$DATA"}

advise: export override DATA := $(value DATA)
advise: $(READY)
	@$(BIN)/python -m commands.advise -- $${DATA:+"$$DATA"}

disk: $(READY)
	@$(BIN)/python -m commands.free --dry-run

free: $(READY)
	@$(BIN)/python -m commands.free

rebuild: export override MODEL := $(value MODEL)
rebuild: export override FOLDER := $(value FOLDER)
rebuild: $(READY)
	@$(BIN)/python -m commands.rebuild -- "$${MODEL:-champion}" $${FOLDER:+"$$FOLDER"}

clean:
	[ -L $(VENV) ] || [ ! -e $(VENV)/pyvenv.cfg ] || rm -rf $(VENV)
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
