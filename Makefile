# Each target installs missing packages into .venv and then runs `python -m ...`. Recipes read the
# user's variables from the environment, because expanding them with $(...) would allow command
# injection.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL = $(PIP) install --quiet --constraint constraints.txt --editable

# WSL sets the variable NAME to the host's name, so NAME from the environment is ignored.
ifeq ($(origin NAME),environment)
NAME :=
endif
VARIABLES := ARTIFACT CONFIG COVERAGE DATA DROP NAME PYTHON RUN TARGET TORCH_INDEX
COMMAND_LINE_VARIABLES := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
ifneq ($(filter-out $(VARIABLES),$(COMMAND_LINE_VARIABLES)),)
$(error unknown variable: $(filter-out $(VARIABLES),$(COMMAND_LINE_VARIABLES)); expected one of $(VARIABLES))
endif

override CONFIG := $(value CONFIG)
override DATA := $(value DATA)
override TARGET := $(value TARGET)
override DROP := $(value DROP)
override NAME := $(value NAME)
override RUN := $(value RUN)
override ARTIFACT := $(value ARTIFACT)
export CONFIG DATA TARGET DROP NAME RUN ARTIFACT
# URL of PyTorch's package index, for example the CPU-only one; the default Linux wheel has CUDA.
ifdef TORCH_INDEX
export PIP_EXTRA_INDEX_URL := $(TORCH_INDEX)
endif

# The servers in the comparison of bench/serve, each in a virtual environment of its own.
SERVE_PEERS := bentoml fastapi flask litserve mlflow mlserver

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help train resume formulations export serve test check format \
    test-clients conformance chaos mutants runtimes floors \
    bench-train bench-serve bench-overload bench-load audit clean

help: ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

# A fit prints how to resume it, which depends on how it was started.
train resume: export MODEL_STARTED_BY_MAKE := 1

train: .venv/.train ## fit a network: DATA=digits, or DATA=houses.csv TARGET=price [DROP=id,name] [NAME=houses] [CONFIG=fit.toml]
	@exec $(BIN)/python -m model train $${CONFIG:+--config "$$CONFIG"} $${DATA:+--data "$$DATA"} \
	    $${TARGET:+--target "$$TARGET"} $${DROP:+--drop "$$DROP"} $${NAME:+--name "$$NAME"}

resume: .venv/.train ## continue the newest checkpoint: [NAME=houses]
	@exec $(BIN)/python -m model train --resume $${NAME:+--name "$$NAME"}

formulations: .venv/.train ## run and compare six ways to write the same fit
	@exec $(BIN)/python -m model formulations

export: .venv/.train ## prove the newest run and publish it as an artifact: [RUN=runs/houses/1]
	@exec $(BIN)/python -m export build $${RUN:+"$$RUN"}

serve: .venv/.serve ## serve predictions on 127.0.0.1:8000: [ARTIFACT=artifacts/houses]
	@exec $(BIN)/python -m service serve $${ARTIFACT:+"$$ARTIFACT"}

test: .venv/.dev ## run the test suite without its slow tests
	@$(BIN)/python -m pytest -n auto $(COVERAGE)

check: .venv/.dev ## check format, lint, types and import contracts; run the tests with branch coverage, and the slow tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test COVERAGE='--cov --cov-report=term'
	$(BIN)/python -m pytest -n auto -m slow

format: .venv/.dev ## format the sources and apply the linter's safe corrections
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

test-clients: .venv/.dev .peers/kserve/.made .peers/schemathesis/.made ## run clients of other projects against a running server
	@$(BIN)/python -m pytest -m clients tests/clients

conformance: .venv/.dev ## send 100,000 generated requests, with random headers too, and check every reply
	@CONFORMANCE_REQUESTS=$${CONFORMANCE_REQUESTS:-100000} $(BIN)/python -m pytest -m conformance tests/conformance

chaos: .venv/.dev ## test version changes, kills, resumes and faults of every kind under load (half an hour)
	@CHAOS_MINUTES=$${CHAOS_MINUTES:-30} CHAOS_SWAPS=100 CHAOS_KILLS=30 CHAOS_RESUMES=50 \
	    CHAOS_WORKER_KILLS=20 $(BIN)/python -m pytest -m chaos tests/chaos

mutants: .venv/.dev ## run every check on faulty artifacts and on correct networks
	@$(BIN)/python -m pytest -m mutants tests/mutants

runtimes: .venv/.dev ## run the artifact in other runtimes, each in a virtual environment of its own: [ARTIFACT=artifacts/houses]
	@RUNTIMES_ARTIFACT="$$ARTIFACT" $(BIN)/python -m pytest -m runtimes tests/runtimes

floors: .peers/floors/.made ## run the service's tests with the oldest versions that pyproject.toml allows
	@.peers/floors/bin/python -m pytest tests/service tests/tabular

bench-train: .venv/.train .peers/train/.made ## compare a fit with scikit-learn, skorch, Lightning and JAX (half an hour)
	@exec $(BIN)/python -m bench.train.compare

bench-serve: .venv/.dev $(SERVE_PEERS:%=.peers/%/.made) ## compare the service with FastAPI, BentoML, MLServer and others (half an hour; needs wrk)
	@exec $(BIN)/python -m bench.serve.compare

bench-overload: .venv/.dev ## measure the service at one, two and four times its peak load (needs wrk)
	@exec $(BIN)/python -m bench.load.overload

bench-load: .venv/.dev ## measure memory under large bodies, bursts of page views, and the replacement of workers (needs wrk)
	@$(BIN)/python -m bench.load.memory
	@$(BIN)/python -m bench.load.pages
	@$(BIN)/python -m bench.load.replacement

audit: .peers/audit/.made ## list known vulnerabilities of the pinned and of the oldest allowed versions (from osv.dev)
	@$(PYTHON) .ci/floors.py >.peers/audit/floors.txt
	@status=0; for pins in .peers/audit/floors.txt constraints.txt; do .peers/audit/bin/pip-audit --strict \
	    --vulnerability-service osv --no-deps --disable-pip --requirement $$pins || status=1; done; exit $$status

clean: ## remove the virtual environments and the caches; runs and artifacts stay
	rm -rf .venv .peers .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* .import_linter_cache

.venv/.pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11")'
	@$(PYTHON) -m venv .venv
	@$(PIP) install --quiet --upgrade 'pip>=25.1'
	@touch $@

.venv/.serve: .venv/.pip pyproject.toml constraints.txt
	@echo 'installing the packages for serving into .venv ...'
	@$(INSTALL) .
	@touch $@

.venv/.train: .venv/.pip pyproject.toml constraints.txt
	@echo 'installing the packages for training and serving into .venv (PyTorch is large) ...'
	@$(INSTALL) '.[train]'
	@touch .venv/.serve $@

.venv/.dev: .venv/.pip pyproject.toml constraints.txt
	@echo 'installing the packages for the tests into .venv (PyTorch is large) ...'
	@$(INSTALL) '.[train]' --group dev
	@touch .venv/.serve .venv/.train $@

# .peers/<name> is the virtual environment of a tool or of a package that benchmarks compare with.
.peers/train/.made: bench/train/peers.txt constraints.txt
	@echo 'installing the libraries of bench/train into .peers/train (PyTorch is large) ...'
	@$(PYTHON) -m venv .peers/train
	@.peers/train/bin/python -m pip --disable-pip-version-check install --quiet \
	    --constraint constraints.txt --requirement bench/train/peers.txt
	@touch $@

.peers/floors/.made: pyproject.toml .ci/floors.py
	@echo 'installing the oldest versions that the service allows into .peers/floors ...'
	@$(PYTHON) -m venv --clear .peers/floors
	@$(PYTHON) .ci/floors.py >.peers/floors/floors.txt
	@.peers/floors/bin/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	@.peers/floors/bin/python -m pip --disable-pip-version-check install --quiet \
	    --constraint .peers/floors/floors.txt --editable '.[score]' --group test-service
	@touch $@

.peers/kserve/.made .peers/schemathesis/.made: .peers/%/.made: tests/clients/%.txt
	@echo 'installing $* into .peers/$* ...'
	@$(PYTHON) -m venv .peers/$*
	@.peers/$*/bin/python -m pip --disable-pip-version-check install --quiet --requirement $<
	@touch $@

.peers/audit/.made:
	@echo 'installing pip-audit into .peers/audit ...'
	@$(PYTHON) -m venv .peers/audit
	@.peers/audit/bin/python -m pip --disable-pip-version-check install --quiet 'pip-audit>=2.9'
	@touch $@

# For a fair comparison, a peer uses the service's versions of these four packages.
.peers/%/.made: bench/serve/peers/%.txt constraints.txt
	@echo 'installing a server of bench/serve into .peers/$* ...'
	@$(PYTHON) -m venv .peers/$*
	@grep -iE '^(flask|numpy|onnxruntime|orjson)==' constraints.txt >.peers/$*/constraints.txt
	@.peers/$*/bin/python -m pip --disable-pip-version-check install --quiet --only-binary=:all: \
	    --constraint .peers/$*/constraints.txt --requirement $<
	@touch $@
