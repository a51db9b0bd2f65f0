# Everything a fresh machine needs is Python 3.11, 3.12 or 3.13 and make; `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
RUNS := build/runs
GMM := --data old-faithful --components 2 --covariance full --seed 0 --precision reproducible --overwrite
VAE := --data digits --latent-dim 10 --epochs 100 --seed 0 --precision reproducible --overwrite

.DEFAULT_GOAL := help
.PHONY: help train parity parity-long faults mutants divergences distributed ecosystem versions bench scale figures compare lint format clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-19s %s\n", $$1, $$2}'

train: $(VENV)/ready  ## train the mixture and the VAE in both frameworks; figures and metrics in build/runs
	@$(RUN) -m pytorch_impl.train_gmm $(GMM) --out $(RUNS)/gmm-torch
	@$(RUN) -m tf2_impl.train_gmm $(GMM) --out $(RUNS)/gmm-tf2
	@$(RUN) -m pytorch_impl.train_vae $(VAE) --out $(RUNS)/vae-torch
	@$(RUN) -m tf2_impl.train_vae $(VAE) --out $(RUNS)/vae-tf2
	@$(RUN) -m common.compare.runs $(RUNS)/gmm-torch $(RUNS)/gmm-tf2
	@$(RUN) -m common.compare.runs $(RUNS)/vae-torch $(RUNS)/vae-tf2

parity: $(VENV)/ready  ## run the test suite and print the parity table; rows in build/parity.json
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 parity_tests

faults: $(VENV)/ready  ## plant one-sided bugs, one at a time, and demand that the suite fails; report in build/faults.json
	@$(RUN) -m parity_tests.guards.faults

mutants: $(VENV)/ready  ## the same with all of cosmic-ray's mutants of four pages (an hour), but for those that change nothing
	@$(RUN) -c "import cosmic_ray" 2>/dev/null || $(RUN) -m pip install --quiet "cosmic-ray>=8.3,<9"
	@$(RUN) -m parity_tests.guards.faults --mutants pytorch_impl/gmm.py pytorch_impl/elbo.py pytorch_impl/vae.py pytorch_impl/em.py

divergences: $(VENV)/ready  ## measure where the frameworks differ by default, and the remedies; in full in build/divergences.md
	@$(RUN) -m parity_tests.divergences

parity-long: $(VENV)/ready  ## 10,000 updates, 1,000 of a VAE of MNIST's size, hostile input at length; then make mutants
	@$(RUN) -m pytest --numprocesses 2 -m long parity_tests
	@$(MAKE) --no-print-directory mutants

distributed: $(VENV)/ready  ## several processes share a run, in both frameworks, by torchrun and by TF_CONFIG: the same bytes
	@$(RUN) -m pytest -m distributed parity_tests/runs/test_distributed.py
	@$(RUN) -m parity_tests.bench.workers

ecosystem: $(VENV)/ready  ## the estimators, the VAE and runs inside other tools: scikit-learn, pandas, torch.export, ONNX, Keras's files, TensorBoard
	@$(RUN) -c "import pandas, onnxruntime, onnxscript, tensorboard" 2>/dev/null || $(RUN) -m pip install --quiet "pandas>=2.2,<4" "onnx>=1.18,<2" \
		"onnxruntime>=1.22,<2" "onnxscript>=0.5,<1" "tensorboard>=2.20,<3"
	@$(RUN) -m pytest parity_tests/runs/test_ecosystem.py

# The peers' own thread settings, and no choice of kernels made for older libraries; pomegranate is for this alone.
bench: $(VENV)/ready  ## time EM against scikit-learn and pomegranate, side by side; rows and figures in build
	@test -d build/peers/pomegranate || $(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --target build/peers \
		"pomegranate>=1.1,<2" "apricot-select>=0.6,<1" "numba>=0.62,<1" llvmlite
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE SCIPY_ARRAY_API=1 OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 \
		MKL_NUM_THREADS=2 $(RUN) -m parity_tests.bench

versions: $(VENV)/ready  ## the suite on the oldest and newest packages that requirements.txt admits, on every Python found
	@$(RUN) -m pip install --quiet "uv>=0.9,<1"
	@$(RUN) -m parity_tests.guards.versions $(PYTHONS)

scale: $(VENV)/ready  ## fit 5,000,000 x 16 numbers from a file in both frameworks and say how much memory it took
	@$(RUN) -m parity_tests.bench.scale

figures: $(VENV)/ready  ## draw the chapters' figures from both implementations' numbers into build/figures
	@$(RUN) -m common.figures.draw pytorch_impl build/figures/torch
	@$(RUN) -m common.figures.draw tf2_impl build/figures/tf2
	@touch build/figures/drawn

compare: $(VENV)/ready  ## one Gaussian, mixture, autoencoder and VAE on the same held-out images; table in build/compare
	@$(RUN) -m common.compare.models tf2_impl build/compare/tf2.json & other=$$!; \
		$(RUN) -m common.compare.models pytorch_impl build/compare/torch.json && wait $$other
	@$(RUN) -m common.compare.report build/compare/torch.json build/compare/tf2.json build/compare

lint: $(VENV)/ready  ## check style and formatting with ruff
	@$(RUN) -m ruff --version >/dev/null 2>&1 || $(RUN) -m pip install --quiet "ruff>=0.12,<1"
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check .

format: $(VENV)/ready  ## let ruff format the sources
	@$(RUN) -m ruff --version >/dev/null 2>&1 || $(RUN) -m pip install --quiet "ruff>=0.12,<1"
	@$(RUN) -m ruff check --fix . ; $(RUN) -m ruff format .

.PHONY: book book-figures book-test notebooks notebooks-test
book: $(VENV)/ready build/figures/drawn  ## write the book, both implementations side by side: build/book/index.html
	@$(RUN) -m common.book build/book

book-figures: $(VENV)/ready  ## condense build/parity.json into common/book/parity.json, which a fresh clone's book shows
	@$(RUN) -m common.book.measured

book-test: book  ## look at every page of the book in headless Chromium (installs it where apt-get can)
	@$(RUN) -m pip install --quiet "playwright>=1.60,<2" "axe-playwright-python>=0.1.4,<1"
	@test -x /usr/bin/chromium || (apt-get update -qq && apt-get install -y -qq chromium) >/dev/null 2>&1 || true
	@if test -x /usr/bin/chromium; then $(RUN) -m pytest --numprocesses 2 parity_tests/guards/book_in_browser.py; \
		else echo "book-test: skipped, there is no /usr/bin/chromium and apt-get cannot install it"; fi

notebooks: $(VENV)/ready  ## write every chapter as a pair of notebooks into build/notebooks, and say how to open them
	@$(RUN) -c "import nbformat, ipykernel, jupyterlab" 2>/dev/null || \
		$(RUN) -m pip install --quiet "nbformat>=5.10,<6" "ipykernel>=6.29,<8" "jupyterlab>=4.2,<5"
	@$(RUN) -m common.book.notebooks build/notebooks

notebooks-test: notebooks  ## run all notebooks; a chapter's two must print the same
	@$(RUN) -m pip install --quiet "nbclient>=0.10,<1"
	@$(RUN) -m pytest --numprocesses 2 parity_tests/guards/book_notebooks.py

clean:  ## remove everything that was generated, .venv included
	rm -rf build $(VENV) .pytest_cache .ruff_cache

# The chapters' figures for the book; `make figures` draws them again when the maths has changed.
build/figures/drawn: common/figures/draw.py common/figures/chapters.py common/figures/plates.py | $(VENV)/ready
	@$(MAKE) --no-print-directory figures

# The environment, made anew whenever requirements.txt is newer than the mark; if CPU=1, with
# PyTorch's CPU build, from PyTorch's own package index, through uv.
$(VENV)/ready: requirements.txt
	$(if $(shell $(PYTHON) -c "import sys; print((3, 11) <= sys.version_info[:2] <= (3, 13) or '')" 2>/dev/null),,\
		$(error $(PYTHON) is not Python 3.11, 3.12 or 3.13; name one that is, such as: make PYTHON=python3.12))
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@echo "installing requirements.txt into $(VENV), once"
	@test -z "$(CPU)" || $(RUN) -m pip install --quiet --disable-pip-version-check "uv>=0.9,<1"
	@test -z "$(CPU)" || $(RUN) -m uv pip install --quiet --python $(RUN) --torch-backend cpu $$(grep ^torch== requirements.txt)
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
