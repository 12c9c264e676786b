# Every target sets up .venv first if it is not current.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# Handed on to what a target starts: make explore OPTIONS="--env=mine --port=8051".
OPTIONS ?=
# Debian packages: OpenGL without a display for renders, a browser for the explorer's tests.
OPENGL := libegl1 libegl-mesa0 libgl1-mesa-dri libgl1
BROWSER := chromium
# No usage data leave this machine; GCS clients do not look for a metadata server.
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT ?= false
export NO_GCE_CHECK ?= true

.DEFAULT_GOAL := help
.PHONY: help setup system explore demo test fuzz lint format bench gpu-bench viz viz-static mlflow jupyter docs docs-serve lock dist clean

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | column -t -s "$$(printf '\t')"

setup: $(READY) ## Prepare .venv

$(READY): pyproject.toml requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' \
		|| { echo "synapseclr needs Python 3.11 or 3.12; '$(PYTHON)' is $$($(PYTHON) --version). Try: make setup PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	@echo "Installing packages into $(VENV): a few minutes, in which nothing is printed"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c requirements.lock -e '.[dev]'
	touch $(READY)

demo: $(READY) ## Simulate a volume, learn from it, and write data/08_reporting/report.html
	$(BIN)/kedro run --pipeline=demo

system: ## Install the Debian packages that renders and the browser tests need (as root)
	@scripts/system_packages.sh $(OPENGL) $(BROWSER)

# A worker that crashes ends the run: xdist can wait for ever for what its successor was to do.
test: $(READY) system ## Run the tests
	$(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --no-loadscope-reorder --max-worker-restart=0

fuzz: $(READY) ## Look for examples that break the property tests, at random
	HYPOTHESIS_PROFILE=fuzz $(BIN)/python -m pytest -m hypothesis tests/augmentation tests/analysis

lint: $(READY) ## Check style, types, the direction of imports and the Dockerfile
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile

format: $(READY) ## Put the code into form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# A benchmark that needs arguments says which, ends with status 2, and is passed over.
bench: $(READY) system ## Run the benchmarks that need no arguments; results go to benchmarks/results
	@for benchmark in $(filter-out benchmarks/gpu.py,$(wildcard benchmarks/*.py)); do echo "$$benchmark"; $(BIN)/python $$benchmark || [ $$? -eq 2 ] || exit 1; done

gpu-bench: $(READY) ## Measure what a GPU does, in ten minutes; without a network: scripts/gpu_bundle.sh
	$(BIN)/python benchmarks/gpu.py $(OPTIONS)

explore: $(READY) ## Look at the synapses of the last run on http://127.0.0.1:8050
	$(BIN)/kedro explore $(OPTIONS)

viz: $(READY) ## Serve the pipeline graph on http://127.0.0.1:4141
	$(BIN)/python scripts/viz.py --port=4141 $(OPTIONS)

viz-static: $(READY) ## Write the pipeline graph, previews included, into build/viz for any web server
	$(BIN)/python scripts/viz.py --static=build/viz

# Kedro starts these two by name.
mlflow jupyter: export PATH := $(abspath $(BIN)):$(PATH)

mlflow: $(READY) ## Serve MLflow's run comparison on http://127.0.0.1:5000
	$(BIN)/kedro mlflow ui $(OPTIONS)

jupyter: $(READY) ## Open the notebooks with the catalog loaded
	$(BIN)/kedro jupyter lab --ip=127.0.0.1 --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate \
		--LabApp.news_url=None notebooks $(OPTIONS)

# Material for MkDocs prints an advertisement of its successor otherwise.
docs docs-serve: export NO_MKDOCS_2_WARNING := 1

docs: $(READY) ## Build the documentation into build/site; warnings are errors
	$(BIN)/mkdocs build $(OPTIONS)

docs-serve: $(READY) ## Serve the documentation on http://127.0.0.1:8000
	$(BIN)/mkdocs serve --dev-addr=127.0.0.1:8000

lock: ## Renew requirements.lock from pyproject.toml
	PYTHON=$(PYTHON) scripts/lock.sh

dist: $(READY) ## Build wheel and sdist of the last commit into build/dist, and try the wheel in a new environment
	PYTHON=$(PYTHON) BUILDER=$(abspath $(BIN))/python scripts/dist.sh

clean: ## Remove the environment, caches and the demo's outputs; raw data of yours stay
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache .import_linter_cache .hypothesis build src/*.egg-info test-artifacts
	rm -rf data/01_raw/simulated data/0[2-8]_*/[!.]* mlflow.db mlartifacts
