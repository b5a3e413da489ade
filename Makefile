# Every target installs what it needs into .venv, once, and is then a line or two over `python -m ...`.
# What a person types travels through the environment, never spliced into shell text.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALL = $(PIP) install --quiet --constraint constraints.txt --editable

# WSL puts the host's name into NAME; ours is only ever given to make.
ifeq ($(origin NAME),environment)
NAME :=
endif
KNOWN := ARTIFACT CONFIG COVERAGE DATA DROP NAME PYTHON RUN TARGET TORCH_INDEX
GIVEN := $(foreach name,$(.VARIABLES),$(if $(findstring command line,$(origin $(name))),$(name)))
ifneq ($(filter-out $(KNOWN),$(GIVEN)),)
$(error unknown variable: $(filter-out $(KNOWN),$(GIVEN)); expected one of $(KNOWN))
endif

override CONFIG := $(value CONFIG)
override DATA := $(value DATA)
override TARGET := $(value TARGET)
override DROP := $(value DROP)
override NAME := $(value NAME)
override RUN := $(value RUN)
override ARTIFACT := $(value ARTIFACT)
export CONFIG DATA TARGET DROP NAME RUN ARTIFACT
# PyTorch's CPU-only package index, say: the default wheel on Linux is the multi-gigabyte CUDA build.
ifdef TORCH_INDEX
export PIP_EXTRA_INDEX_URL := $(TORCH_INDEX)
endif

# bench/serve.py compares with each of these in a virtual environment of its own.
SERVE_PEERS := bentoml fastapi flask litserve mlflow mlserver

.NOTPARALLEL:
.DEFAULT_GOAL := help
.PHONY: help train resume formulations export serve test test-clients check bench-train bench-runtimes bench-serve bench-overload audit clean

help: ## list the commands
	@sed -n 's/^\([a-z][a-z-]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 24

train: .venv/.train ## fit: DATA=digits, or DATA=houses.csv TARGET=price [DROP=id,name] [NAME=houses] [CONFIG=fit.toml]
	@exec $(BIN)/python -m model train $${CONFIG:+--config "$$CONFIG"} $${DATA:+--data "$$DATA"} \
	    $${TARGET:+--target "$$TARGET"} $${DROP:+--drop "$$DROP"} $${NAME:+--name "$$NAME"}

resume: .venv/.train ## go on with the fit that was interrupted last: [NAME=houses]
	@exec $(BIN)/python -m model train --resume $${NAME:+--name "$$NAME"}

formulations: .venv/.train ## the same fit written six ways, compared
	@exec $(BIN)/python -m model formulations

export: .venv/.train ## prove and publish the newest run as an artifact: [RUN=runs/houses/1]
	@exec $(BIN)/python -m export build $${RUN:+"$$RUN"}

serve: .venv/.serve ## answer POST /predict on 127.0.0.1:8000: [ARTIFACT=artifacts/houses]
	@exec $(BIN)/python -m service serve $${ARTIFACT:+"$$ARTIFACT"}

test: .venv/.dev ## run the test suite
	@$(BIN)/python -m pytest -n auto -m 'not slow' $(COVERAGE)

test-clients: .venv/.dev .peers/kserve/.made .peers/schemathesis/.made ## the service before KServe's own client and schemathesis
	@$(BIN)/python -m pytest tests/clients/check_kserve.py tests/clients/check_schemathesis.py

check: .venv/.dev ## what CI runs: format, lint, types, import contracts, tests with branch coverage, slow tests
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) test COVERAGE='--cov --cov-report=term'
	$(BIN)/python -m pytest -n auto -m slow

bench-train: .venv/.train .peers/train/.made ## what a fit costs beside scikit-learn, skorch, Lightning and JAX (half an hour)
	@exec $(BIN)/python bench/train.py

bench-runtimes: .venv/.serve ## the artifact in other runtimes, each in its own environment: [ARTIFACT=artifacts/houses]
	@exec $(BIN)/python bench/runtimes.py $${ARTIFACT:+"$$ARTIFACT"}

bench-serve: .venv/.dev $(SERVE_PEERS:%=.peers/%/.made) ## what an answer costs beside FastAPI, BentoML, MLServer and others (half an hour; needs wrk)
	@exec $(BIN)/python bench/serve.py

bench-overload: .venv/.dev ## the service asked for one, two and four times what it can answer (needs wrk)
	@exec $(BIN)/python bench/overload.py

audit: .peers/audit/.made ## known vulnerabilities of all that is pinned, and of the oldest versions that serving allows (asks osv.dev)
	@$(PYTHON) -c 'import re, tomllib; needs = tomllib.load(open("pyproject.toml", "rb"))["project"]["dependencies"]; \
	    print("\n".join("==".join(re.fullmatch(r"([\w-]+)>=([\d.]+)(?:,.*)?", need).groups()) for need in needs))' >.peers/audit/floors.txt
	@status=0; for pins in .peers/audit/floors.txt constraints.txt; do .peers/audit/bin/pip-audit --strict \
	    --vulnerability-service osv --no-deps --disable-pip --requirement $$pins || status=1; done; exit $$status

clean: ## remove the environments and the caches; runs and artifacts stay
	rm -rf .venv .peers bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .coverage* .import_linter_cache

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

.peers/train/.made: .venv/.pip bench/train_peers.txt constraints.txt
	@echo 'installing what bench/train.py compares with into .peers/train (PyTorch is large) ...'
	@$(PYTHON) -m venv .peers/train
	@.peers/train/bin/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt --requirement bench/train_peers.txt
	@touch $@

.peers/schemathesis/.made: .venv/.pip tests/clients/schemathesis.txt
	@echo 'installing schemathesis into .peers/schemathesis ...'
	@$(PYTHON) -m venv .peers/schemathesis
	@.peers/schemathesis/bin/python -m pip --disable-pip-version-check install --quiet --requirement tests/clients/schemathesis.txt
	@touch $@

.peers/kserve/.made: .venv/.pip tests/clients/kserve.txt
	@echo "installing KServe's client into .peers/kserve ..."
	@$(PYTHON) -m venv .peers/kserve
	@.peers/kserve/bin/python -m pip --disable-pip-version-check install --quiet --requirement tests/clients/kserve.txt
	@touch $@

.peers/audit/.made: .venv/.pip
	@echo 'installing pip-audit into .peers/audit ...'
	@$(PYTHON) -m venv .peers/audit
	@.peers/audit/bin/python -m pip --disable-pip-version-check install --quiet 'pip-audit>=2.9' # the newest knows most
	@touch $@

# The parts that they share with the service have its versions; what else constraints.txt holds, some cannot live with.
.peers/%/.made: bench/serve_peers/%.txt constraints.txt .venv/.pip
	@echo 'installing what bench/serve.py compares with into .peers/$* ...'
	@$(PYTHON) -m venv .peers/$*
	@grep -iE '^(flask|numpy|onnxruntime|orjson)==' constraints.txt >.peers/$*/constraints.txt
	@.peers/$*/bin/python -m pip --disable-pip-version-check install --quiet --only-binary=:all: \
	    --constraint .peers/$*/constraints.txt --requirement $<
	@touch $@
