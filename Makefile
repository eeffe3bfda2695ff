# `make demo` and `make test` set up what they need; the second time they start at once.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.ready
DEV    := $(VENV)/.ready-dev
FUZZ   := $(VENV)/.ready-fuzz

# On x86-64 Linux onnxruntime-gpu installs everywhere and runs on the CPU where there is no CUDA.
RUNTIME := $(if $(filter Linux-x86_64,$(shell uname -sm | tr ' ' -)),gpu,cpu)
PIP     := $(BIN)/python -m pip --disable-pip-version-check install -q -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo test test-arm64 lint format types imports bench fuzz clean

help:
	@echo "make demo   set up and run the main job on this machine"
	@echo "make test   set up and run the tests"
	@echo "make test-arm64   flash an emulated arm64 board (root, debootstrap, qemu-user-static)"
	@echo "make lint   ruff, mypy and the import contracts"
	@echo "make bench  measure; writes benchmarks/RESULTS.md"
	@echo "make fuzz   a million mutated messages against agent and coordinator"
	@echo "make clean  remove what was built here"

$(STAMP): setup.cfg constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "siftmoe needs Python 3.10 or newer; set PYTHON=")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[$(RUNTIME),coordinator]'
	touch $@

$(DEV): $(STAMP) .ci/system-packages
	.ci/system-packages
	$(PIP) -e '.[$(RUNTIME),coordinator,pluto,fleet,metrics,eval,dev]'
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

$(FUZZ): $(DEV)
	$(PIP) -e '.[fuzz]'
	touch $@

fuzz: $(FUZZ)
	$(BIN)/python -m benchmarks.fuzz.protocol

bench: $(FUZZ)
	$(BIN)/python benchmarks/run.py

clean:
	rm -rf $(VENV) build dist *.egg-info src/*.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
