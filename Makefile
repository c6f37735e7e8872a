# The two commands a newcomer needs. Each sets up what it needs, in .venv and nowhere else.
PYTHON ?= python3
VENV ?= .venv
LOWEST_PYTHON ?= python3.10

# `make docs` builds the site of the documentation into site/, and fails on a broken link.
.PHONY: demo test test-lowest docs clean

demo: $(VENV)/installed-demo
	$(VENV)/bin/vmr-demo

# Files are taken in their order: those of tests/integration, which take minutes each, do not come last and alone.
test: $(VENV)/installed-dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder
	TRITON_INTERPRET=1 $(VENV)/bin/python -m pytest -n logical --maxprocesses 8 tests/triton

# The same tests with the lowest version of every package that setup.cfg allows, in an environment beside the first.
test-lowest:
	$(MAKE) VENV=$(VENV)-lowest PYTHON=$(LOWEST_PYTHON) PIP_FLAGS='--constraint tests/lowest.txt' $(VENV)-lowest/installed-dev
	$(VENV)-lowest/bin/python -m pytest -n logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

# zensical itself fails on broken links, but not on docstrings that do not fit what they describe: griffe only names them.
docs: $(VENV)/installed-docs
	@said=$$($(VENV)/bin/zensical build --clean --strict 2>&1); status=$$?; echo "$$said"; \
	if echo "$$said" | grep -qE '^(griffe|mkdocstrings): '; then exit 1; fi; exit $$status

clean:
	rm -rf $(VENV) $(VENV)-lowest demo site .cache build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis

# An install is repeated when what is to be installed has changed.
$(VENV)/installed-%: setup.cfg pyproject.toml setup.py $(wildcard vmr/ops/csrc/*) | $(VENV)/bin/python
	$(VENV)/bin/python -m pip install --disable-pip-version-check $(PIP_FLAGS) --editable '.[$*]'
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)
