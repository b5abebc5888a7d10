# Two commands for newcomers, `make demo` and `make test`; both do their own set-up in .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
export PIP_DISABLE_PIP_VERSION_CHECK := 1
WORKERS ?= 2
# On few cores, threads that spin while they wait cost more than they give.
export OMP_WAIT_POLICY ?= passive

.PHONY: demo test test-slow lint clean

demo: $(VENV)/demo.stamp
	$(BIN)/reelign demo

test: $(VENV)/test.stamp
	./tools/system_packages
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "not slow and not gpu and not alone"
	$(BIN)/pytest -m "alone and not slow"

test-slow: $(VENV)/test.stamp
	./tools/system_packages
	$(BIN)/pytest -n $(WORKERS) --dist loadfile -m "slow and not alone"
	$(BIN)/pytest -m "slow and alone"

lint: $(VENV)/test.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/mypy

$(VENV)/demo.stamp: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "reelign needs Python 3.11 or newer; set PYTHON=python3.11")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[track]'
	touch $@

$(VENV)/test.stamp: $(VENV)/demo.stamp
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo
