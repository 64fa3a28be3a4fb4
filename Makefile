# make demo              the playground at http://127.0.0.1:7860, with the bundled model
# make test              lint and tests, in minutes
# make test-slow         tests that take longer: other library versions, sanitizers, other compilers
# make test-llama        the GGUF export against llama.cpp, which is compiled first (ten minutes, once)
# make bench             every table of docs/performance.md that needs neither llama.cpp nor a browser (under 45 minutes, idle machine)
# make bench-llama       the same with llama.cpp, which is compiled first (ten minutes, once)
# make bench-playground  page rendering and 32 concurrent callers; writes docs/playground.md (fifteen minutes, idle machine)
# make pictures          screenshots of every tab into pictures/, and the pictures in docs/
# make site              the project's site into build/site: the series, the research notes, the documentation, the demo
# make lint              ruff, basedpyright and oxlint
# make clean             removes the environment and every cache
#
# On Linux, PyPI's torch includes CUDA. For the CPU-only build, a tenth of the size:
#   make demo TORCH_INDEX=https://download.pytorch.org/whl/cpu

PYTHON ?= python3
TORCH_INDEX ?=
PYTEST_ARGS ?=
LLAMA_CPP ?= llama-cpp-python==0.3.36

BIN := .venv/bin

.PHONY: demo test fast-tests test-slow test-llama bench bench-llama bench-playground pictures site lint clean chromium node cross-compiler

demo: .venv/installed
	$(BIN)/python app.py

# Lint and tests run together, since tests often wait for a page or a process.
test: .venv/installed-dev chromium node
	@$(MAKE) --no-print-directory --jobs 2 lint fast-tests
	@echo "Tests marked slow were not run; make test-slow runs them."

fast-tests:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -n 3 --dist loadgroup --no-loadscope-reorder -m "not slow" $(PYTEST_ARGS)

test-slow: .venv/installed-dev node cross-compiler
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -ra -n 3 --dist loadgroup --no-loadscope-reorder -m slow $(PYTEST_ARGS)

test-llama: .venv-llama/installed
	.venv-llama/bin/python -m pytest -ra tests/export/test_llama_cpp.py $(PYTEST_ARGS)

bench: .venv/installed
	$(BIN)/python -m benchmarks.performance --docs

bench-llama: .venv-llama/installed
	$(MAKE) bench

bench-playground: .venv/installed-dev chromium
	$(BIN)/python -m benchmarks.playground --docs
	$(BIN)/python -m benchmarks.visitors --docs

pictures: .venv/installed-dev chromium
	$(BIN)/python -m tools.pictures
	$(BIN)/python -m tools.pictures --all pictures

site: .venv/installed
	$(BIN)/python -m tools.site --out build/site

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/oxlint --deny-warnings playground
	$(BIN)/basedpyright --level error

# Chromium for the browser tests, installed where apt can; elsewhere those tests are skipped with a message.
chromium:
	@if command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium \
		|| echo "Chromium could not be installed; the tests that drive a browser will be skipped."; \
	else echo "No Chromium here, and only root may install it; the tests that drive a browser will be skipped."; fi

# Node for the tests of the page without a server, likewise.
node:
	@if command -v node >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends nodejs >/dev/null \
		|| echo "Node could not be installed; the tests of the page without a server will be skipped."; \
	else echo "No node here, and only root may install it; the tests of the page without a server will be skipped."; fi

# A cross-compiler: the kernels must compile for ARM too. Where apt can't install it, that test is skipped.
cross-compiler:
	@if command -v aarch64-linux-gnu-g++ >/dev/null; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y g++-aarch64-linux-gnu >/dev/null \
		|| echo "g++ for aarch64 could not be installed; the test that compiles for it will be skipped."; fi

# The stamp file distinguishes a complete environment from a partial one, and makes the second call instant.
.venv/installed: requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Axion needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	@echo "Installing into .venv; this takes a few minutes, once."
	$(PYTHON) -m venv .venv
	$(if $(TORCH_INDEX),$(BIN)/python -m pip install --quiet --index-url $(TORCH_INDEX) $(shell grep '^torch==' requirements.txt))
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps --editable .
	@touch $@

.venv/installed-dev: requirements-dev.txt .venv/installed
	$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@

# A separate environment for llama.cpp; everything else comes from .venv through a .pth file.
.venv-llama/installed: .venv/installed-dev
	@command -v cmake >/dev/null && command -v c++ >/dev/null || { echo "llama.cpp must be compiled: install cmake and a C++ compiler first"; exit 2; }
	$(PYTHON) -m venv .venv-llama
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
		> $$(.venv-llama/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth
	.venv-llama/bin/python -m pip install --quiet $(LLAMA_CPP)
	@touch $@

clean:
	rm -rf .venv .venv-llama build dist .pytest_cache .ruff_cache .hypothesis .gradio *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
