# Each target makes the virtual environment it needs: Python and make are all there has to be.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python -m
PIP = $(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt --editable

.PHONY: demo test lint types clean

demo: $(VENV)/.torchreid
	$(RUN) drsl_plugin demo

test: lint types
	$(RUN) pytest -n 2 --dist loadscope

lint: $(VENV)/.dev
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(VENV)/.dev
	$(RUN) mypy

$(VENV)/.torchreid: setup.cfg setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) ".[torchreid]"
	touch $@

# FastReID's package on PyPI pins torch 1.13.1, so it goes in without its requirements.
$(VENV)/.dev: $(VENV)/.torchreid
	$(PIP) ".[torchreid,fastreid,dev]"
	$(RUN) pip install --quiet --disable-pip-version-check --no-deps fastreid==1.4.0
	touch $@

clean:
	rm -rf $(VENV)
