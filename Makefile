# Each target creates .venv and installs what is missing, once, and is then a line or two over
# `python -m ...`. Values that a person types travel through the environment, never through shell text.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL = $(PIP) install --quiet --constraint constraints.txt --editable

# WSL sets NAME to the host's name, so NAME counts only when it is given to make.
ifeq ($(origin NAME),environment)
NAME :=
endif
VARIABLES := ARTIFACT CONFIG COVERAGE DATA DROP NAME PYTHON RUN TARGET TORCH_INDEX
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
ifneq ($(filter-out $(VARIABLES),$(GIVEN)),)
$(error unknown variable: $(filter-out $(VARIABLES),$(GIVEN)); expected one of $(VARIABLES))
endif

override CONFIG := $(value CONFIG)
override DATA := $(value DATA)
override TARGET := $(value TARGET)
override DROP := $(value DROP)
override NAME := $(value NAME)
override RUN := $(value RUN)
override ARTIFACT := $(value ARTIFACT)
export CONFIG DATA TARGET DROP NAME RUN ARTIFACT
# For example PyTorch's index of CPU-only packages: the default wheel on Linux holds CUDA.
ifdef TORCH_INDEX
export PIP_EXTRA_INDEX_URL := $(TORCH_INDEX)
endif

# The servers that bench/serve compares with, each in a virtual environment of its own.
SERVE_PEERS := bentoml fastapi flask litserve mlflow mlserver

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help train resume formulations export serve test check format \
    test-clients conformance chaos mutants runtimes floors \
    bench-train bench-serve bench-overload audit clean

help: ## list the commands
	@sed -n 's/^\([a-z][a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

train: .venv/.train ## fit a network: DATA=digits, or DATA=houses.csv TARGET=price [DROP=id,name] [NAME=houses] [CONFIG=fit.toml]
	@exec $(BIN)/python -m model train $${CONFIG:+--config "$$CONFIG"} $${DATA:+--data "$$DATA"} \
	    $${TARGET:+--target "$$TARGET"} $${DROP:+--drop "$$DROP"} $${NAME:+--name "$$NAME"}

resume: .venv/.train ## continue the newest checkpoint: [NAME=houses]
	@exec $(BIN)/python -m model train --resume $${NAME:+--name "$$NAME"}

formulations: .venv/.train ## run the same fit written six ways and compare them
	@exec $(BIN)/python -m model formulations

export: .venv/.train ## prove the newest run and publish it as an artifact: [RUN=runs/houses/1]
	@exec $(BIN)/python -m export build $${RUN:+"$$RUN"}

serve: .venv/.serve ## answer POST /predict on 127.0.0.1:8000: [ARTIFACT=artifacts/houses]
	@exec $(BIN)/python -m service serve $${ARTIFACT:+"$$ARTIFACT"}

test: .venv/.dev ## run the test suite
	@$(BIN)/python -m pytest -n auto $(COVERAGE)

check: .venv/.dev ## what CI runs: format, lint, types, import contracts, tests with branch coverage, slow tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test COVERAGE='--cov --cov-report=term'
	$(BIN)/python -m pytest -n auto -m slow

format: .venv/.dev ## format the sources and apply the linter's safe corrections
	$(BIN)/ruff check --fix --exit-zero --quiet
	$(BIN)/ruff format

test-clients: .venv/.dev .peers/kserve/.made .peers/schemathesis/.made ## clients of other projects against a running server
	@$(BIN)/python -m pytest -m clients tests/clients

conformance: .venv/.dev ## 100,000 generated requests, each with a known answer
	@CONFORMANCE_REQUESTS=$${CONFORMANCE_REQUESTS:-100000} $(BIN)/python -m pytest -m conformance tests/conformance

chaos: .venv/.dev ## hot swaps, kills, resumes and worker deaths under load
	@CHAOS_SWAPS=100 CHAOS_KILLS=30 CHAOS_RESUMES=50 CHAOS_WORKER_KILLS=20 $(BIN)/python -m pytest -m chaos tests/chaos

mutants: .venv/.dev ## every mutant of seven networks against every check, and healthy networks
	@$(BIN)/python -m pytest -n auto -m mutants tests/mutants

runtimes: .venv/.dev ## the artifact in other runtimes, each in a virtual environment of its own: [ARTIFACT=artifacts/houses]
	@RUNTIMES_ARTIFACT="$$ARTIFACT" $(BIN)/python -m pytest -m runtimes tests/runtimes

floors: .peers/floors/.made ## the service's tests with the oldest versions that pyproject.toml allows
	@.peers/floors/bin/python -m pytest tests/service tests/tabular

bench-train: .venv/.train .peers/train/.made ## the cost of a fit beside scikit-learn, skorch, Lightning and JAX (half an hour)
	@exec $(BIN)/python -m bench.train.compare

bench-serve: .venv/.dev $(SERVE_PEERS:%=.peers/%/.made) ## the cost of an answer beside FastAPI, BentoML, MLServer and others (half an hour; needs wrk)
	@exec $(BIN)/python -m bench.serve.compare

bench-overload: .venv/.dev ## the service at one, two and four times its capacity (needs wrk)
	@exec $(BIN)/python -m bench.load.overload

audit: .peers/audit/.made ## known vulnerabilities of the pinned versions and of the oldest allowed ones (asks osv.dev)
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
	@echo 'installing what serving needs into .venv ...'
	@$(INSTALL) .
	@touch $@

.venv/.train: .venv/.pip pyproject.toml constraints.txt
	@echo 'installing what training and serving need into .venv (PyTorch is large) ...'
	@$(INSTALL) '.[train]'
	@touch .venv/.serve $@

.venv/.dev: .venv/.pip pyproject.toml constraints.txt
	@echo 'installing what the tests need into .venv (PyTorch is large) ...'
	@$(INSTALL) '.[train]' --group dev
	@touch .venv/.serve .venv/.train $@

# .peers/<name> is the virtual environment of one tool or peer that does not share .venv.
.peers/train/.made: bench/train/peers.txt constraints.txt
	@echo 'installing what bench/train compares with into .peers/train (PyTorch is large) ...'
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

# A peer shares these four packages with the service in the same versions, for a fair comparison.
.peers/%/.made: bench/serve/peers/%.txt constraints.txt
	@echo 'installing what bench/serve compares with into .peers/$* ...'
	@$(PYTHON) -m venv .peers/$*
	@grep -iE '^(flask|numpy|onnxruntime|orjson)==' constraints.txt >.peers/$*/constraints.txt
	@.peers/$*/bin/python -m pip --disable-pip-version-check install --quiet --only-binary=:all: \
	    --constraint .peers/$*/constraints.txt --requirement $<
	@touch $@
