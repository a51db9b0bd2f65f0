# Everything a fresh machine needs is Python 3.11, 3.12 or 3.13 and make; `make` alone lists the targets.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
RUNS := build/runs
GMM := --data old-faithful --components 2 --covariance full --seed 0 --precision reproducible --overwrite
VAE := --data digits --latent-dim 10 --epochs 100 --seed 0 --precision reproducible --overwrite

.DEFAULT_GOAL := help
.PHONY: help train parity parity-long divergences figures lint format clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/make \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-14s %s\n", $$1, $$2}'

train: $(VENV)/ready  ## train the mixture and the VAE in both frameworks; figures and metrics in build/runs
	@$(RUN) -m pytorch_impl.train_gmm $(GMM) --out $(RUNS)/gmm-torch
	@$(RUN) -m tf2_impl.train_gmm $(GMM) --out $(RUNS)/gmm-tf2
	@$(RUN) -m pytorch_impl.train_vae $(VAE) --out $(RUNS)/vae-torch
	@$(RUN) -m tf2_impl.train_vae $(VAE) --out $(RUNS)/vae-tf2
	@$(RUN) -m common.compare_runs $(RUNS)/gmm-torch $(RUNS)/gmm-tf2
	@$(RUN) -m common.compare_runs $(RUNS)/vae-torch $(RUNS)/vae-tf2

parity: $(VENV)/ready  ## run the test suite and print the parity table; rows in build/parity.json
	@$(RUN) -m pytest --numprocesses 2 parity_tests

divergences: $(VENV)/ready  ## measure where the frameworks differ by default, and the remedies; in full in build/divergences.md
	@$(RUN) -m parity_tests.divergences

parity-long: $(VENV)/ready  ## 10,000 updates, and 1,000 of a VAE of MNIST's size: agreement, equal bytes, their odds
	@$(RUN) -m pytest --numprocesses 2 -m long parity_tests

figures: $(VENV)/ready  ## draw the chapters' figures from both implementations' numbers into build/figures
	@$(RUN) -m common.draw_chapters pytorch_impl build/figures/torch
	@$(RUN) -m common.draw_chapters tf2_impl build/figures/tf2

lint: $(VENV)/ready  ## check style and formatting with ruff
	@$(RUN) -m ruff --version >/dev/null 2>&1 || $(RUN) -m pip install --quiet "ruff>=0.12,<1"
	@$(RUN) -m ruff check . && $(RUN) -m ruff format --check .

format: $(VENV)/ready  ## let ruff format the sources
	@$(RUN) -m ruff --version >/dev/null 2>&1 || $(RUN) -m pip install --quiet "ruff>=0.12,<1"
	@$(RUN) -m ruff check --fix . ; $(RUN) -m ruff format .

clean:  ## remove everything that was generated, .venv included
	rm -rf build $(VENV) .pytest_cache .ruff_cache

# The environment, made anew whenever requirements.txt is newer than the mark.
$(VENV)/ready: requirements.txt
	$(if $(shell $(PYTHON) -c "import sys; print((3, 11) <= sys.version_info[:2] <= (3, 13) or '')" 2>/dev/null),,\
		$(error $(PYTHON) is not Python 3.11, 3.12 or 3.13; name one that is, such as: make PYTHON=python3.12))
	@rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	@echo "installing requirements.txt into $(VENV), once"
	@$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@
