# make run: a fresh clone becomes a measured, gated, packaged model. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.PHONY: help setup dev run lint unit slow toolchain e2e browser test lock clean

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
CONFIG ?= configs/smollm2-135m/gguf_q4_k_m_imatrix.yaml
# Every pin is in the file, so there is nothing to resolve. No bytecode for 16,000 files of which a run imports a tenth.
INSTALL := $(BIN)/python -m pip install -qq --no-compile --no-deps --disable-pip-version-check

# Optional: EXTRAS=s3 for shared stores on S3; dask, ray for `tapeout compare --task-runner`
EXTRAS ?=

# Test files, or environments, that are tested beside each other. The e2e tier measures speed, and has the machine alone.
JOBS ?= 2

# Root reads and writes whatever permissions say, and its tests would miss what fails for everybody else: they run without
# that right, where it can be taken.
ORDINARY := setpriv --bounding-set=-dac_override,-dac_read_search
AS_USER := $(shell [ "$$(id -u)" != 0 ] || { $(ORDINARY) true && echo $(ORDINARY); } 2>/dev/null)

ENVS := torch peft onnx pruning openvino openvino_llm onnx_llm gptq autoawq llmcompressor tensorrt gguf

# What is installed is named by stamps whose names hold a checksum of what they stand for.
sum = $(shell { $(1); } | cksum | tr ' ' -)
MADE := $(VENV)/.made-$(call sum,pwd; $(PYTHON) --version)
SETUP := $(VENV)/.setup-$(call sum,cat envs/tapeout.txt pyproject.toml $(EXTRAS:%=envs/%.txt))
DEV := $(VENV)/.dev-$(call sum,cat envs/tapeout.txt envs/s3.txt envs/dask.txt envs/dev.txt)

help:  ## this list
	@awk -F ':.*## ' '/^[a-z0-9]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SETUP)  ## the orchestrator in .venv; tool environments are built on first use

dev: $(DEV)  ## setup, and what lint and test need

run: setup  ## the main job: CONFIG=configs/...
	$(BIN)/tapeout run $(CONFIG)

lint: dev  ## ruff, mypy --strict, import-linter, hadolint, docs/config.md as the code says
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/hadolint Dockerfile.cpu Dockerfile.cuda
	$(BIN)/python docs/generate.py --check

unit: dev  ## seconds, no toolchain
	$(AS_USER) $(BIN)/python -m pytest tests/unit tests/configs -n $(JOBS)

slow: dev  ## real servers, databases and downloads
	$(AS_USER) $(BIN)/python -m pytest tests/unit -m "slow or download" -n $(JOBS) --dist loadfile

toolchain: dev  ## tiny real models inside their environments
	@printf '%s\n' $(ENVS) | PYTHONPATH=. HF_HUB_OFFLINE=1 xargs -P $(JOBS) -I{} bash -euc \
	  'python=$$($(BIN)/tapeout envs python {}); told=$$($(AS_USER) $$python -m pytest tests/toolchain/{} -p no:cacheprovider 2>&1) \
	  || failed=$$?; printf "%s\n" {} "$$told"; exit $${failed:-0}'

e2e: dev  ## a real model and real data through the whole program
	$(AS_USER) $(BIN)/python -m pytest tests/e2e -m "e2e or download"

browser: dev  ## pages in a headless Chromium, where there is one; pictures in build/screenshots
	$(AS_USER) $(BIN)/python -m pytest tests/browser -m browser

# What fails to build fails again, and is heard, in the toolchain tier, which waits for each environment in the order in
# which they are built. Servers start on a machine that is theirs.
test: dev  ## all of it, one tier after the other, up to the first failure; environments are built beside the first three
	+@$(BIN)/tapeout envs build $(ENVS) >/dev/null 2>&1 & builder=$$!; trap 'kill $$builder 2>/dev/null || true' EXIT; \
	for tier in lint unit toolchain; do $(MAKE) --no-print-directory $$tier; done; wait $$builder || true; \
	for tier in slow e2e browser; do $(MAKE) --no-print-directory $$tier; done

lock: setup  ## write envs/ENV.txt anew from envs/ENV.in: make lock ENV=gguf
	$(BIN)/python -m pipelines.building.pinning $(or $(ENV),$(error say which: make lock ENV=gguf))

clean:  ## remove .venv and caches; Tapeout's home and dist/ stay
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(MADE):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' \
	  || { echo "Tapeout needs Python 3.11: make $(MAKECMDGOALS) PYTHON=/path/to/python3.11" >&2; exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	touch $@

$(SETUP): $(MADE)
	@echo "installing the orchestrator: $$(grep -c == envs/tapeout.txt) packages, about half a minute"
	$(INSTALL) "$$(grep '^pip==' envs/tapeout.txt)"
	$(INSTALL) -r envs/tapeout.txt $(EXTRAS:%=-r envs/%.txt)
	$(INSTALL) -e .
	@# whatever PYTHONDONTWRITEBYTECODE says: else every process compiles all that it imports, 2 s for Prefect alone
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -W ignore -c \
	  "import mlflow.server.fastapi_app, prefect.flows, prefect.server.api.server, prefect.workers.process"
	$(BIN)/python -m compileall -q pipelines stages targets
	rm -f $(VENV)/.setup-*
	touch $@

$(DEV): $(SETUP)
	$(INSTALL) -r envs/s3.txt -r envs/dask.txt -r envs/dev.txt
	rm -f $(VENV)/.dev-*
	touch $@
