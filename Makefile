# `make lab` opens the course, `make test` runs everything that CI runs. Both set up .venv first.
# GNU make 3.81 (macOS) reads this file too.

PYTHON ?= python3
PORT ?= 8888
SOAK ?= 25

# Absolute, for Jupyter does not take paths as relative to this folder.
VENV := $(CURDIR)/.venv

# Settings, history and signatures stay here, and a learner's own Jupyter set-up cannot change the lesson.
export JUPYTER_CONFIG_DIR := $(CURDIR)/.jupyter/config
export JUPYTER_DATA_DIR := $(CURDIR)/.jupyter/data
export IPYTHONDIR := $(CURDIR)/.jupyter/ipython
export MPLCONFIGDIR := $(CURDIR)/.jupyter/matplotlib
# Modules from elsewhere would come before the locked ones.
unexport PYTHONPATH
unexport PYTHONHOME
# Or each of the hundred processes that the tests start compiles the kit anew.
unexport PYTHONDONTWRITEBYTECODE

# JupyterLab: no news popup, no look-up of newer versions, and no slider positions saved into notebooks.
define OVERRIDES
{"@jupyterlab/apputils-extension:notification": {"fetchNews": "false", "checkForUpdates": false},
 "@jupyter-widgets/jupyterlab-manager:plugin": {"saveState": false}}
endef
export OVERRIDES

# A folder that was moved, or whose Python is gone, is set up again: its scripts and links hold its old place.
ifneq ($(shell .venv/bin/python -I -c 'from importlib.util import find_spec as f; print(f("tdpkit").origin)' \
    2>/dev/null),$(CURDIR)/tdpkit/__init__.py)
.PHONY: .venv/locked
endif

STOP = stop() { echo "tdpkit: $$1" >&2; exit 1; }
# However the set-up ends early (an error, Ctrl-C), no half-made folder stays. A second signal must not end the cleaning:
# GNU make sends its own SIGTERM after the first.
CLEAN_UP = trap "" HUP INT TERM; [ -e .venv/ready ] || rm -rf .venv
ALL_OR_NOTHING = trap '$(CLEAN_UP)' EXIT; trap '$(CLEAN_UP); exit 130' HUP INT TERM

.PHONY: help lab check test soak bench outputs lock clean

help:
	@echo 'make lab      open the course in JupyterLab (PORT=8888, BROWSER=no on a machine without a screen)'
	@echo 'make check    lint, types and the tests that matter while one works: a minute'
	@echo 'make test     lint, types, tests and notebooks: what CI runs'
	@echo 'make soak     random operations, drawn anew (SOAK=25 times as many as in the tests), schedules of three threads, and exercises'
	@echo 'make bench    measure the numbers that the design promises'
	@echo 'make outputs  run the notebooks and store their outputs'
	@echo 'make lock     resolve requirements.lock anew (remove the file first for the newest releases)'
	@echo 'make clean    remove .venv, settings and caches'
	@echo 'PYTHON=...    the Python, 3.11 or newer, to set up .venv with (default python3)'

# Sockets instead of TCP, which any user of the machine could reach, between JupyterLab and its kernels. A socket's
# path may have 103 characters: hence /tmp.
lab: .venv/ready
	@.venv/bin/jupyter trust notebooks/*.ipynb >/dev/null
	@$(STOP); \
	export JUPYTER_RUNTIME_DIR="/tmp/tdpkit-$$(id -u)"; \
	mkdir -p -m 700 "$$JUPYTER_RUNTIME_DIR" && [ -O "$$JUPYTER_RUNTIME_DIR" ] || \
	    stop "The folder $$JUPYTER_RUNTIME_DIR must belong to you, and does not."; \
	set -- notebooks/00*.ipynb; \
	exec .venv/bin/jupyter lab -y --log-level=WARN --ip=127.0.0.1 --port=$(PORT) --KernelManager.transport=ipc \
	    --ServerApp.root_dir="$(CURDIR)" --LabApp.default_url="/lab/tree/$$1" \
	    --LabApp.extension_manager=readonly \
	    $(if $(filter no,$(BROWSER)),--no-browser) $$([ "$$(id -u)" != 0 ] || echo --allow-root)

LINT = .venv/bin/ruff check && .venv/bin/ruff format --check && .venv/bin/mypy
# Files in the order in which they are found, the slow ones of the browser first; a file's tests stay together.
PYTEST = .venv/bin/python -m pytest --dist loadfile --no-loadscope-reorder

# No browser, no notebooks, no long searches.
check: .venv/ready
	$(LINT)
	$(PYTEST) -n 2 -q -m "not slow" tests --ignore=tests/browser --ignore=tests/setup

# Three files at a time on two cores: those of the browser, which come first, wait for their page half the time.
test: .venv/ready
	$(LINT)
	$(PYTEST) -n 3

soak: .venv/ready
	TDPKIT_SOAK=$(SOAK) .venv/bin/python -m pytest -n 2 tests/tdx/test_stateful.py \
	    tests/lab/schedules/test_scenarios.py tests/exercises/test_problems.py

bench: .venv/ready
	.venv/bin/python -m tests.bench

outputs: .venv/ready
	.venv/bin/python -m tests.notebooks.write_outputs

# The locked packages, from nothing.
.venv/locked: requirements.lock
	@set -e; $(STOP); \
	command -v "$(PYTHON)" >/dev/null || stop "Python 3.11 or newer is needed, and there is no '$(PYTHON)' on the PATH."; \
	found=$$("$(PYTHON)" -c 'import sys; print("%d.%d" % sys.version_info[:2])') || stop "Python 3.11 or newer is needed, and '$(PYTHON)' does not run."; \
	"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    stop "Python 3.11 or newer is needed, and '$(PYTHON)' is Python $$found: name a newer one, as in 'make PYTHON=python3.12 lab'."; \
	"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || \
	    stop "Python's venv module is missing: install it (on Debian and Ubuntu: apt-get install python3-venv)."; \
	echo "Setting up .venv with Python $$found (about a minute, once) ..."; \
	rm -rf .venv; $(ALL_OR_NOTHING); \
	"$(PYTHON)" -m venv .venv || stop "'$(PYTHON) -m venv' failed (it says why above)."; \
	.venv/bin/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock || \
	    stop "The packages of requirements.lock could not be installed (pip says why above)."; \
	touch $@; trap - EXIT

# The package itself, and JupyterLab's settings.
.venv/ready: .venv/locked pyproject.toml Makefile
	@set -e; $(STOP); $(ALL_OR_NOTHING); \
	.venv/bin/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e . || \
	    stop "tdpkit itself could not be installed (pip says why above)."; \
	mkdir -p .venv/share/jupyter/lab/settings; \
	printf '%s\n' "$$OVERRIDES" >.venv/share/jupyter/lab/settings/overrides.json; \
	touch $@

# uv only resolves; pip installs. The file says nothing of where the packages came from.
lock:
	@tmp=$$(mktemp -d) && trap 'rm -rf "$$tmp"' EXIT && \
	"$(PYTHON)" -m venv "$$tmp" && "$$tmp/bin/python" -m pip install -qq --disable-pip-version-check uv && \
	"$$tmp/bin/uv" pip compile --quiet --no-config --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --custom-compile-command 'make lock' \
	    --extra lab --extra test --group build --output-file requirements.lock pyproject.toml

clean:
	rm -rf .venv .jupyter .hypothesis .mypy_cache .pytest_cache .ruff_cache build dist
	find . -type d \( -name __pycache__ -o -name .ipynb_checkpoints \) -prune -exec rm -rf {} +
