# `make run`: set up, then train, score and register a GAN.   `make test`: set up, then all tests.
# Also: make check | bench | pictures | ui | worker | preset NAME=... [DATA=...] | rebuild [MODEL=...] [FOLDER=...] | clean

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.requirements-$(shell sha256sum requirements.txt | cut -c1-16)

export MLFLOW_DISABLE_TELEMETRY := true
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1

.PHONY: run test check bench pictures ui worker preset rebuild clean

run: $(READY)
	@$(BIN)/python -m flows

test: $(READY)
	@# two processes, each with about half of the work; the output of the second is printed once the first has ended
	@output=$$(mktemp); trap 'kill $$second; rm -f $$output; exit 130' INT TERM; \
	$(BIN)/python -m pytest -m "not pipeline" >$$output 2>&1 & second=$$!; \
	$(BIN)/python -m pytest -m pipeline; status=$$?; \
	wait $$second || status=$$?; cat $$output; rm $$output; exit $$status

check: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pydoclint gan_core mlops stages commands experiments flows benchmarks
	$(BIN)/python -m pytest tests/test_architecture.py

bench: $(READY)
	@$(BIN)/python -m benchmarks --page docs/benchmarks.md

pictures: $(READY)
	@$(BIN)/python -m benchmarks.pictures

$(READY): requirements.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	@# prefect's docstring_parser and pydoclint's fork of it share one folder; the fork serves both, so it comes last
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --force-reinstall \
		$(shell grep ^docstring_parser_fork requirements.txt)
	@touch $@

ui: $(READY)
	@mkdir -p .mlflow .prefect
	@$(BIN)/mlflow server --host 127.0.0.1 --port 5000 --workers 1 \
		--backend-store-uri sqlite:///$(CURDIR)/.mlflow/mlflow.db \
		--artifacts-destination $(CURDIR)/.mlflow/artifacts >.mlflow/server.log 2>&1 & mlflow=$$!; \
	$(BIN)/prefect server start >.prefect/server.log 2>&1 & prefect=$$!; \
	trap 'kill $$mlflow $$prefect 2>/dev/null' INT TERM; \
	echo "MLflow   http://127.0.0.1:5000/#/experiments/1?workflowType=machine_learning"; \
	echo "Prefect  http://127.0.0.1:4200/runs"; \
	echo "Both start within seconds; their logs are .mlflow/server.log and .prefect/server.log. Ctrl-C stops both."; \
	wait $$mlflow $$prefect; wait; true

worker: export PREFECT_API_URL ?= http://127.0.0.1:4200/api
worker: $(READY)
	@$(BIN)/prefect --no-prompt work-pool create local --type process --overwrite
	@$(BIN)/prefect --no-prompt deploy --all
	@$(BIN)/prefect worker start --pool local --type process

preset: $(READY)
	@$(BIN)/python -m commands.preset "$(NAME)" $(if $(DATA),"$(DATA)")

rebuild: $(READY)
	@$(BIN)/python -m commands.rebuild $(if $(MODEL),"$(MODEL)",champion) $(if $(FOLDER),"$(FOLDER)")

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
