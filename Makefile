# `make demo` and `make test` set up what they need; the second time they start at once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DEV    := $(VENV)/.ready-dev
FUZZ   := $(VENV)/.ready-fuzz
DOCS   := $(VENV)/.ready-docs

# On x86-64 Linux onnxruntime-gpu installs everywhere and runs on the CPU where there is no CUDA.
RUNTIME := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),gpu,cpu)
# Which PyTorch: auto (without CUDA where there is no GPU), cpu or cuda.
TORCH  ?= auto
PIP     := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-arm64 lint format types imports docs bench fuzz clean

help:
	@echo "make demo   set up and run the main job on this machine"
	@echo "make test   set up and run the tests"
	@echo "make test-arm64   flash an emulated arm64 board (root, debootstrap, qemu-user-static)"
	@echo "make lint   ruff, mypy and the import contracts"
	@echo "make docs   build the documentation site into site/; warnings are errors"
	@echo "make bench  measure; writes benchmarks/RESULTS.md"
	@echo "make fuzz   a million mutated messages against agent and coordinator"
	@echo "make clean  remove what was built here"

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "siftmoe needs Python 3.10 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)

$(STAMP): setup.cfg constraints.txt .ci/torch_build.py | $(BIN)/python
	TORCH=$(TORCH) $(BIN)/python .ci/torch_build.py $(BIN)/python
	$(PIP) -e '.[$(RUNTIME),coordinator]'
	touch $@

$(DEV): $(STAMP) .ci/system-packages
	.ci/system-packages
	$(PIP) -e '.[$(RUNTIME),coordinator,pluto,fleet,metrics,serve,cluster,eval,docs,dev]'
	touch $@

demo: $(STAMP)
	$(BIN)/siftmoe loopback

test: $(DEV)
	$(BIN)/python -m pytest -n 2 --dist loadfile $(PYTEST_ARGS)

test-arm64: $(DEV)
	$(BIN)/python -m benchmarks.flash.arm64

lint: $(DEV) types imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(DEV)
	$(BIN)/mypy -p siftmoe
	$(BIN)/mypy examples/*.py examples/plugin/siftmoe_example

imports: $(DEV)
	$(BIN)/lint-imports

# A site needs no model: neither torch nor ONNX Runtime is installed for it.
$(DOCS): setup.cfg constraints.txt | $(BIN)/python
	$(PIP) -e '.[docs]'
	touch $@

docs: $(DOCS)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(FUZZ): $(DEV)
	$(PIP) -e '.[fuzz]'
	touch $@

fuzz: $(FUZZ)
	$(BIN)/python -m benchmarks.fuzz.protocol

bench: $(FUZZ)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist site *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
