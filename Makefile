# Every target first installs what it needs into .venv; a second call starts at once. `make help` lists them.

PYTHON ?= python3
TORCH_INDEX ?=
ARGS ?=

VENV := .venv
BIN := $(VENV)/bin
# Written last, with the path of the checkout: if it is missing or has another path, .venv is repaired.
READY := $(VENV)/.ibkd-ready
PIP := $(BIN)/python -m pip --disable-pip-version-check
PINS := -c requirements/constraints.txt

READY_FOR := $(shell $(BIN)/python -c 'import pip' 2>/dev/null && cat $(READY) 2>/dev/null)
ifneq ($(READY_FOR),$(CURDIR))
REPAIR := repair
endif

# Threads that spin while they wait slow each other down; see ibkd_mm/cli/__init__.py.
export OMP_WAIT_POLICY ?= PASSIVE

.DEFAULT_GOAL := help
.PHONY: help install quickstart test test-most test-apart lint ops clean repair

help:
	@echo 'make install     everything that ibkd_mm needs, into .venv (torch aside, about a minute; no compiler)'
	@echo 'make quickstart  show on a page what distillation brings (10 minutes on 2 cores)'
	@echo 'make test        the test suite; ARGS="tests/stack -k nms" selects tests'
	@echo 'make lint        ruff and mypy'
	@echo 'make ops         build the compiled mmcv operators (optional; needs a C++ compiler, on a GPU machine'
	@echo '                 nvcc too; a quarter of an hour on 2 cores)'
	@echo 'make clean       remove .venv, build outputs and caches; leaves data/ and work_dirs/'
	@echo
	@echo 'PYTHON=python3.12    the Python, 3.10 to 3.13, of .venv'
	@echo "TORCH_INDEX=URL      another package index, such as the one for CPU-only torch on PyTorch's page"
	@echo "                     \"Get Started\", which saves gigabytes on a machine without a GPU"

install: $(READY)

quickstart: $(READY)
	$(BIN)/ibkd quickstart $(ARGS)

# Two processes in parallel, each with half of the cores. The tests that run ONNX Runtime and OpenVINO have a process
# of their own: the runtimes and a training after one another have crashed a process, in either order.
RUNTIMES := tests/deploy tests/benchmark
APART := tests/configs tests/distill tests/engine tests/methods tests/offline tests/stack tests/yolov10
HALF := $(shell n=$$(( $$(nproc 2>/dev/null || echo 2) / 2 )); echo $$(( n > 1 ? n : 1 )))
test: $(READY)
ifdef ARGS
	$(BIN)/pytest $(ARGS)
else
	+@OMP_NUM_THREADS=$(HALF) $(MAKE) --no-print-directory -j2 --output-sync=line test-most test-apart
endif
test-most:
	$(BIN)/pytest $(RUNTIMES:%=--ignore %) $(APART:%=--ignore %)
test-apart:
	$(BIN)/pytest $(RUNTIMES)
	$(BIN)/pytest $(APART)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# mmcv's setup.py finds torch and the compiler only without pip's build isolation, and without --no-cache-dir pip
# installs the lite wheel that it built before.
ops: $(READY)
	@command -v $${CXX:-c++} >/dev/null || { echo "make ops: no C++ compiler '$${CXX:-c++}' found." \
	    "Install g++ or clang++, or name yours: make ops CXX=/path/to/g++" >&2; exit 2; }
	@test -f "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" || \
	    { echo 'make ops: no Python.h found. Install the headers of your Python (python3-dev on Debian' \
	    'and Ubuntu, python3-devel on Fedora)' >&2; exit 2; }
	@echo 'make ops: compiling the mmcv operators: a quarter of an hour on 2 cores, longer with CUDA'
	$(PIP) install -q $(PINS) setuptools wheel ninja psutil
	MMCV_WITH_OPS=1 $(PIP) install --no-build-isolation --no-cache-dir --force-reinstall --no-deps $(PINS) onedl-mmcv
	$(BIN)/ibkd doctor

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Our requirements install both opencv-python and opencv-python-headless, which share their files: the last one
# installed is used. The headless one runs without libGL.
$(READY): requirements/runtime.txt requirements/tests.txt requirements/deploy.txt requirements/constraints.txt \
    setup.cfg pyproject.toml $(REPAIR)
	@$(call make_venv)
	@echo 'make install: installing into $(VENV) (about a minute, plus the time for torch)'
	$(PIP) install $(PINS) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) \
	    -r requirements/runtime.txt -r requirements/tests.txt -r requirements/deploy.txt
	@$(BIN)/python -c 'import sys, cv2; sys.exit(not cv2.version.headless)' 2>/dev/null || \
	    $(PIP) install -q $(PINS) --force-reinstall --no-deps opencv-python-headless
	$(PIP) install -q --no-build-isolation --no-deps -e .
	@echo '$(CURDIR)' > $(READY)
	@echo 'make install: $(VENV) is ready'

repair:

# Create or repair .venv: remove half-installed packages so that pip installs them again; create it again if it
# cannot run or belongs to another folder.
define make_venv
	if [ -e $(VENV) ]; then \
	    if ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	        echo 'make install: $(VENV) has no working Python with pip: creating it again'; \
	        rm -rf $(VENV); \
	    elif [ -e $(READY) ] && [ "$$(cat $(READY))" != '$(CURDIR)' ]; then \
	        echo 'make install: $(VENV) belongs to another folder: creating it again'; \
	        rm -rf $(VENV); \
	    elif [ ! -e $(READY) ]; then \
	        echo 'make install: $(VENV) is not complete: repairing it'; \
	    fi; \
	fi; \
	if [ ! -e $(VENV) ]; then \
	    command -v $(PYTHON) >/dev/null || { echo "make install: no '$(PYTHON)' found." \
	        'Install Python 3.10 to 3.13, or name yours: make install PYTHON=/path/to/python3' >&2; exit 2; }; \
	    $(PYTHON) -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' || { \
	        echo "make install: Python 3.10 to 3.13 is needed, and '$(PYTHON)' is $$($(PYTHON) --version 2>&1)." \
	        'Name another one: make install PYTHON=python3.13' >&2; exit 2; }; \
	    $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
	        echo "make install: '$(PYTHON) -m venv' failed (on Debian and Ubuntu: install python3-venv)" >&2; exit 2; }; \
	fi; \
	rm -f $(READY); \
	for info in $(VENV)/lib/python*/site-packages/*.dist-info; do \
	    if [ -d "$$info" ] && { [ ! -e "$$info/RECORD" ] || [ ! -e "$$info/INSTALLER" ]; }; then \
	        echo "make install: $${info##*/} is half installed: removing it"; rm -rf "$$info"; \
	    fi; \
	done; \
	rm -rf $(VENV)/lib/python*/site-packages/~*
endef
