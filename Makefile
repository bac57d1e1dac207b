# minimae. `make` prints what can be made. Every target first makes .venv and installs what it needs, once, and again
# only when pyproject.toml has changed. Needs nothing but Python 3.10 or newer; another Python: make run PYTHON=python3.12

PYTHON  ?= python3
WORKERS ?= 2

VENV := .venv
PY   := $(VENV)/bin/python

# By default glibc hands large freed blocks back to the kernel, and the next step of training waits for fresh, zeroed pages:
# 20,000 to 30,000 page faults a step of the nano model at batch 256, where these two leave fewer than 200 and need no more
# memory in all. That is dear on small virtual machines. They go together: the first alone sends every block above 128 KiB
# back and is slower than neither. (MALLOC_MMAP_THRESHOLD_ would do for the second, but glibc before 2.35 ignores one above
# 32 MiB.) Only glibc reads them: nothing changes on macOS. The minimae command does the same by itself (minimae/cli/allocator.py).
export MALLOC_TRIM_THRESHOLD_ := 4294967296
export MALLOC_MMAP_MAX_       := 0

.PHONY: help run test lab book student slides docs notes weights lint clean
.DEFAULT_GOAL := help
.NOTPARALLEL:

help: ## print this
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' Makefile

run: $(VENV)/.run-stamp ## pre-train a small model on the sample, and look at what it has learnt: results in runs/demo
	$(VENV)/bin/minimae demo --out runs/demo

# One thread for each test process and each kernel: the models are small, and threads that wait for each other cost more than they
# save. The minimae command chooses its threads itself.
test lab book: export OMP_NUM_THREADS ?= 1
test: $(VENV)/.test-stamp $(VENV)/.docs-stamp ## all tests, notebooks included (WORKERS=2 processes)
	$(PY) -m pytest -n $(WORKERS) --dist loadscope --no-loadscope-reorder

lab: $(VENV)/.lab-stamp ## open the book in JupyterLab, at its first chapter
	$(VENV)/bin/jupyter lab notebooks/00_a_picture_mostly_missing.ipynb

book: $(VENV)/.lab-stamp ## run the chapters' scripts and write the notebooks (CHAPTERS="05 06" for some)
	$(PY) notebooks/build.py $(CHAPTERS)

student: $(VENV)/.lab-stamp ## copies of the notebooks without solutions and outputs, in student/
	$(PY) notebooks/build.py --student student

slides: $(VENV)/.docs-stamp ## slides of the chapters for lectures, in slides/: open them in a browser
	$(PY) docs/slides.py slides

docs: $(VENV)/.docs-stamp ## build the site into docs/_build/html, and open every page in a browser if there is one
	$(PY) -m sphinx -b html -q -W --keep-going docs docs/_build/html
	$(PY) docs/check.py docs/_build/html

notes: ## print the release notes of a version from the change log (VERSION=0.6.0; by default the newest)
	@$(PYTHON) docs/notes.py $(VERSION)

weights: $(VENV)/.lab-stamp ## train the shipped weights again: 25 minutes to hours (NAMES="fashion-nano" for some)
	$(PY) data/make_weights.py --download $(NAMES)

lint: $(VENV)/.test-stamp ## ruff and mypy
	$(PY) -m ruff check
	$(PY) -m mypy

clean: ## remove .venv, caches and builds; runs/ and data/downloads/ stay
	rm -rf $(VENV) build dist student slides docs/_build docs/api docs/notebooks docs/changelog.md docs/images/photographs.webp .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What is installed. A stamp is written only when pip has succeeded; the test extra holds the other two.
$(VENV)/.run-stamp: pyproject.toml
	$(call install,.,.run-stamp)

$(VENV)/.lab-stamp: pyproject.toml
	$(call install,.[book],.run-stamp .lab-stamp)

$(VENV)/.test-stamp: pyproject.toml
	$(call install,.[test],.run-stamp .lab-stamp .test-stamp)

$(VENV)/.docs-stamp: pyproject.toml
	$(call install,.[docs],.run-stamp .docs-stamp)

define install
	@$(PY) -m pip --version >/dev/null 2>&1 || { $(check_python) $(PYTHON) -m venv --clear $(VENV); }
	$(PY) -m pip install --disable-pip-version-check -e '$(1)'
	@touch $(addprefix $(VENV)/,$(2))
endef

define check_python
$(PYTHON) -c '' 2>/dev/null || \
  { echo "minimae: no working $(PYTHON) here. Install Python 3.10 or newer, or name one: make PYTHON=/path/to/python3" >&2; exit 1; }; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
  { echo "minimae: $(PYTHON) is `$(PYTHON) -V 2>&1`, but 3.10 or newer is needed. Name one: make PYTHON=python3.12" >&2; exit 1; }; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
  { echo "minimae: $(PYTHON) has no venv module. On Debian and Ubuntu: apt install python3-venv" >&2; exit 1; };
endef
