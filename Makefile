# Each target makes the virtual environment it needs: Python and make are all there has to be.
PYTHON ?= python3
VENV ?= .venv
RUN = $(VENV)/bin/python -m
INSTALLED = $(VENV)/.installed

.PHONY: demo test lint types clean

demo: $(INSTALLED)
	$(RUN) drsl_plugin demo

test: lint types
	$(RUN) pytest

lint: $(INSTALLED)
	$(RUN) ruff check .
	$(RUN) ruff format --check .

types: $(INSTALLED)
	$(RUN) mypy

$(INSTALLED): setup.cfg constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(RUN) pip install --quiet --disable-pip-version-check -c constraints.txt --editable ".[torchreid,dev]"
	touch $@

clean:
	rm -rf $(VENV)
