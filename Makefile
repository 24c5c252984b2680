# make train   a trained agent and the picture of its adaptation, from nothing
# make lint    format, style, types  make check   lint and the fast tests
# make test    every test            make slow    the tests that `make check` leaves out
# make docs    the site of the documents, site/index.html
# make test-faults    attacks small runs and prints what held (half an hour)
# make venv    only the set-up       make clean   removes what these made, but no runs

PRESET := halfcheetah-vel-quick
RUN := runs/$(PRESET)
PY := .venv/bin/python
STAMP := .venv/installed
# A process for each core, up to four; who runs out of tests takes some of another's.
PYTEST := $(PY) -m pytest --numprocesses logical --maxprocesses 4 --dist worksteal

# The first Python on the path that the project supports; `make PYTHON=... train` names another.
SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.10
PYTHON ?= $(shell for p in $(CANDIDATES); do $$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && break; done)

.PHONY: train docs lint test slow test-faults check venv clean
.DELETE_ON_ERROR:

train: venv
	$(PY) -m metarl.train $(PRESET)
	$(PY) -m metarl.evaluate $(RUN) --controls random
	@echo
	@echo "run      $(RUN)"
	@echo "curve    $(RUN)/evaluation/adaptation.png"
	@echo "numbers  $(RUN)/evaluation/adaptation.csv (.json with every episode)"

test: venv
	$(PYTEST)

slow: venv
	$(PYTEST) -m slow

test-faults: venv
	$(PY) scripts/attack.py

# After the set-up it needs no network.
docs: venv
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --quiet
	@echo "site     site/index.html"

lint: venv
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/pyright --pythonpath $(PY)

check: lint
	$(PYTEST) -m "not slow"

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@"$(or $(strip $(PYTHON)),false)" -c '$(SUPPORTED)' 2>/dev/null || { \
	  echo "error: metarl needs Python 3.10 to 3.13, found: $$($(or $(strip $(PYTHON)),python3) --version 2>&1 | tail -1)" >&2; \
	  echo "name one with: make PYTHON=/path/to/python $(or $(MAKECMDGOALS),train)" >&2; exit 2; }
	@$(PY) -c '$(SUPPORTED)' 2>/dev/null || "$(PYTHON)" -m venv --clear .venv
	@echo "installing metarl and what it needs into .venv (a minute or two)"
	@$(PY) -m pip install -qq --no-compile -c constraints.txt -e '.[dev,docs]'
	@touch $@

clean:
	rm -rf .venv build dist site *.egg-info .pytest_cache .ruff_cache .hypothesis
	find metarl scripts tests -name __pycache__ -prune -exec rm -rf {} +
