# make run    environment, Paddle Lite's opt, and the whole pipeline on the embedded data set
# make test   environment and the tests
# make test-paddle2   the tests on PaddlePaddle 2.6, make test-paddle3 on 3 (in .venv-paddle3); make test is one of them
# make compare-paddle training, export and INT8 models of the two side by side (docs/paddle3.md)
# make lint   formatting, imports, types, spelling: the hooks of .pre-commit-config.yaml
# make docs   the documentation as a site, in site/
# make results        the tables of the documentation, written from results/*.yaml
# make benchmarks     every figure of docs/speed.md, measured and recorded; hours, on a machine that does nothing else
# make results-check  whether they are as results/*.yaml say; part of make lint
# make quickstart-weights   weights/quickstart.safetensors anew, from scratch (weights/README.md)
# make wheel  what pip installs, in dist/
# Everything is made once and used again after. LOCKED=1 installs the very packages of requirements.lock, checked
# by their hashes (Python 3.11, Linux x86-64: what CI does); without it pip chooses within setup.cfg's ranges.

SAVE_DIR := output/
# The first interpreter that there are wheels for; `make PYTHON=… run` chooses another.
PYTHON := $(shell for p in python3.11 python3.12 python3.10 python3.9 python3.13 python3; do \
  $$p -c 'import sys; sys.exit(not (3, 9) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null && echo $$p && break; done)
# PaddlePaddle 2.6 with PaddleSlim, or with PADDLE=3 the newest, in an environment of its own; Python 3.13 has that alone.
PADDLE := $(shell $(PYTHON) -c 'import sys; print(3 if sys.version_info >= (3, 13) else 2)' 2>/dev/null)
COMMA := ,
VENV := $(if $(filter 3,$(PADDLE)),.venv-paddle3,.venv)
EXTRAS := $(if $(filter 3,$(PADDLE)),dev,dev$(COMMA)paddleslim)
LOCK := $(if $(filter 3,$(PADDLE)),requirements-paddle3.lock,requirements.lock)
BIN := $(VENV)/bin
# The site's generator reads docstrings without importing them, so it has a small environment of its own.
DOCS := .venv-docs
# Processes that run the tests side by side, one thread and about 2 GB each; `make JOBS=4 test` where there are more cores.
JOBS := 2

.PHONY: run test test-slow test-paddle2 test-paddle3 compare-paddle lint docs benchmarks results results-check wheel quickstart-weights env toolchain clean

run: env toolchain
	$(BIN)/picoquant run --config quickstart.yaml --save-dir $(SAVE_DIR)

test: env toolchain
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

test-paddle2 test-paddle3:
	$(MAKE) PADDLE=$(subst test-paddle,,$@) test

compare-paddle:
	$(MAKE) PADDLE=2 env
	$(MAKE) PADDLE=3 env
	.venv/bin/python -m benchmarks.compare_paddle .venv/bin/python .venv-paddle3/bin/python

test-slow: env toolchain
	$(BIN)/python -m pytest -m slow

lint: env
	$(BIN)/pre-commit run --all-files --show-diff-on-failure

benchmarks: env
	$(BIN)/python -m benchmarks.speed --work output/speed --record

results: env
	$(BIN)/python -m benchmarks.results

results-check: env
	$(BIN)/python -m benchmarks.results --check

docs: $(DOCS)/.ready
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict --quiet

wheel: env
	rm -rf build dist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

quickstart-weights: env
	$(BIN)/picoquant train --config weights/quickstart_pretraining.yaml --save-dir output/quickstart_weights
	$(BIN)/picoquant convert-weights --half output/quickstart_weights/train/best.pdparams weights/quickstart.safetensors

env: $(VENV)/.ready

$(VENV)/.ready: setup.cfg setup.py pyproject.toml $(if $(LOCKED),$(LOCK))
	@test -n "$(PYTHON)" || { echo "No Python 3.9 to 3.13 on PATH; install one, or: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	@echo "Making $(VENV) with $(PYTHON); the first time this downloads about 400 MB"
	$(PYTHON) -m venv $(VENV)
ifdef LOCKED
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade pip
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$(EXTRAS)]'
endif
	@touch $@

$(DOCS)/.ready: docs/requirements.txt $(if $(LOCKED),requirements-docs.lock)
	@test -n "$(PYTHON)" || { echo "No Python 3.9 to 3.13 on PATH; install one, or: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv $(DOCS)
ifdef LOCKED
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-docs.lock
else
	$(DOCS)/bin/python -m pip install --quiet --disable-pip-version-check -r docs/requirements.txt
endif
	@touch $@

# Without a Python 3.10 or 3.8 there is no opt: the tests that need it say so, packaging stops with what to do.
toolchain: env
	@$(BIN)/picoquant toolchain install || echo "Going on without Paddle Lite's opt"

clean:
	rm -rf $(VENV) $(DOCS) build dist site *.egg-info
