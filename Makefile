# Everything a fresh machine needs is Python 3.11, 3.12 or 3.13 and make; `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
RUNS := build/runs
GMM := --data old-faithful --components 2 --covariance full --seed 0 --precision reproducible --overwrite
VAE := --data digits --latent-dim 10 --epochs 100 --seed 0 --precision reproducible --overwrite

.DEFAULT_GOAL := help
.PHONY: help train book notebooks parity parity-long faults digests distributed versions divergences compare bench port-bugs certificate book-test

help:
	@sed -n -e 's/^\([a-z-]*\):.*##  *\(.*\)/make \1|\2/p' -e 's/^## *\(.*\)/\1:/p' $(MAKEFILE_LIST) | \
		awk -F'|' '/:$$/ {print; next} {printf "  %-17s %s\n", $$1, $$2}'
	@echo "common/book/pages/commands.md says how long each takes, and lists the commands that need no make"

## use
train: $(VENV)/ready  ## train a mixture and a VAE in both frameworks and compare the runs
	@$(RUN) -m pytorch_impl.train_gmm $(GMM) --out $(RUNS)/gmm-torch
	@$(RUN) -m tf2_impl.train_gmm $(GMM) --out $(RUNS)/gmm-tf2
	@$(RUN) -m pytorch_impl.train_vae $(VAE) --out $(RUNS)/vae-torch
	@$(RUN) -m tf2_impl.train_vae $(VAE) --out $(RUNS)/vae-tf2
	@$(RUN) -m common.compare.runs $(RUNS)/gmm-torch $(RUNS)/gmm-tf2
	@$(RUN) -m common.compare.runs $(RUNS)/vae-torch $(RUNS)/vae-tf2

book: $(VENV)/ready build/figures/drawn  ## write the book, both implementations side by side: build/book/index.html
	@$(RUN) -m common.book build/book

notebooks: $(VENV)/ready  ## write every chapter as a pair of notebooks, and print how to open them
	@$(RUN) -c "import nbformat, ipykernel, jupyterlab" 2>/dev/null || \
		$(RUN) -m pip install --quiet "nbformat>=5.10,<6" "ipykernel>=6.29,<8" "jupyterlab>=4.2,<5"
	@$(RUN) -m common.book.notebooks build/notebooks

## check
parity: $(VENV)/ready  ## run the suite, and print how far apart the frameworks are
	@OMP_NUM_THREADS=1 $(RUN) -m pytest --numprocesses 2 parity_tests

parity-long: $(VENV)/ready  ## 10,000 updates, a VAE of MNIST's size, hostile input at length, mutants of four pages
	@$(RUN) -m pytest --numprocesses 2 -m long parity_tests
	@$(RUN) -c "import cosmic_ray" 2>/dev/null || $(RUN) -m pip install --quiet "cosmic-ray>=8.3,<9"
	@$(RUN) -m parity_tests.guards.faults --mutants $(addprefix pytorch_impl/,gmm.py elbo.py vae.py em.py)

faults: $(VENV)/ready  ## plant bugs, one at a time, some in both frameworks at once, and demand that the suite fails
	@$(RUN) -m parity_tests.guards.faults

digests: $(VENV)/ready  ## train fixed runs, and compare them with the bytes that every machine should get
	@$(if $(ON),bash parity_tests/digests/emulated.sh $(ON),$(RUN) -m parity_tests.digests $(DEVICES))

distributed: $(VENV)/ready  ## share a run among processes, by torchrun and by TF_CONFIG: the same bytes
	@$(RUN) -m pytest -m distributed parity_tests/runs/test_distributed.py
	@$(RUN) -m parity_tests.bench.workers

versions: $(VENV)/ready  ## run the suite on the oldest and the newest packages, on every Python found
	@$(RUN) -m pip install --quiet "uv>=0.9,<1"
	@$(RUN) -m parity_tests.guards.versions $(PYTHONS)

## study
divergences: $(VENV)/ready  ## measure where the frameworks differ by default, and the remedies
	@$(RUN) -m parity_tests.divergences

compare: $(VENV)/ready  ## one Gaussian, mixture, autoencoder and VAE on the same held-out images
	@$(RUN) -m common.compare.models tf2_impl build/compare/tf2.json & other=$$!; \
		$(RUN) -m common.compare.models pytorch_impl build/compare/torch.json && wait $$other
	@$(RUN) -m common.compare.report build/compare/torch.json build/compare/tf2.json build/compare

# The peers' own thread settings, and no choice of kernels made for older libraries; pomegranate is for this alone.
bench: $(VENV)/ready  ## time EM and a VAE against other libraries, side by side
	@test -d build/peers/pomegranate || $(RUN) -m pip install --quiet --disable-pip-version-check --no-deps --target build/peers \
		"pomegranate>=1.1,<2" "apricot-select>=0.6,<1" "numba>=0.62,<1" llvmlite
	@env -u OPENBLAS_CORETYPE -u OPENBLAS_L2_SIZE SCIPY_ARRAY_API=1 OMP_NUM_THREADS=2 OPENBLAS_NUM_THREADS=2 \
		MKL_NUM_THREADS=2 $(RUN) -m parity_tests.bench

# Planted bugs in ports, and correct ports, checked by the porting tool; listed in the book's commands.
port-bugs: $(VENV)/ready
	@$(RUN) -m parity_tests.port_bugs

# Each chapter and estimator in correct digits against answers of others; listed in the book's commands.
certificate: $(VENV)/ready
	@$(RUN) -m parity_tests.certificate

# Every page of the book in headless Chromium: its controls, its size, and what axe says of it.
book-test: $(VENV)/ready
	@$(RUN) -c "import playwright, axe_playwright_python" 2>/dev/null || \
		$(RUN) -m pip install --quiet playwright axe-playwright-python
	@$(RUN) -m pytest --numprocesses 2 parity_tests/guards/book_in_browser.py

# The chapters' figures for the book, drawn again when the code that draws them has changed.
build/figures/drawn: $(wildcard common/figures/*.py) | $(VENV)/ready
	@$(RUN) -m common.figures.draw pytorch_impl build/figures/torch
	@$(RUN) -m common.figures.draw tf2_impl build/figures/tf2
	@touch $@

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
