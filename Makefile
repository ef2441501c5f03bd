# Two commands do everything on a fresh machine: make quickstart, make test.

PYTHON ?= python3
VENV ?= .venv
RUN := $(VENV)/bin/python

.PHONY: help quickstart quickstart-tiny test test-slow test-peers lint format clean

help:
	@echo "make quickstart   prepare, pretrain, fine-tune, evaluate, predict on real Chinese text"
	@echo "make test         the tests"
	@echo "make test-slow    those that take minutes: several processes, killed and damaged runs"
	@echo "make test-peers   those beside PyTorch and transformers, which it installs"
	@echo "make lint         ruff, and formatting checked"

$(VENV)/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(v < (3, 11) and \
	  "bert_jax needs Python 3.11 or newer and $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v[:2])'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .[dev]
	@touch $@

quickstart: $(VENV)/installed
	$(RUN) -m launch.quickstart --workdir=runs/quickstart

# The same stages in a minute or two, on a part of the text: shows that they run.
quickstart-tiny: $(VENV)/installed
	$(RUN) -m launch.quickstart --workdir=runs/quickstart-tiny --variant=tiny

# A file is one process's, so that what its tests share is made once.
test: $(VENV)/installed-dev
	$(RUN) -m pytest -m "not slow" --numprocesses auto --dist loadfile $(ARGS)

$(VENV)/installed-tpu: $(VENV)/installed-dev
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .[dev,tpu-plan]
	@touch $@

test-slow: $(VENV)/installed-tpu
	$(RUN) -m pytest -m slow --numprocesses auto --dist loadfile --durations=20 $(ARGS)

$(VENV)/installed-peers: $(VENV)/installed-dev
	$(RUN) -m pip install --quiet --disable-pip-version-check --editable .[dev,peers]
	@touch $@

test-peers: $(VENV)/installed-peers
	$(RUN) -m pytest -k peers --numprocesses auto --dist loadfile --durations=5 $(ARGS)

lint: $(VENV)/installed-dev
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

format: $(VENV)/installed-dev
	$(RUN) -m ruff check --fix .
	$(RUN) -m ruff format .

clean:
	rm -rf $(VENV) runs
