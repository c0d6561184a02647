# For a newcomer: `make demo` shows it working, `make test` runs every test. Both set up what they need in .venv.

BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check -qq

.PHONY: help demo test explore check docs format clean

help:
	@echo 'make demo    a cluster on this machine, a replicated service, an answer over HTTPS'
	@echo 'make test    every test'
	@echo 'make explore property tests with forty times the examples, other ones at each run'
	@echo 'make check   formatting, lint, types, import contracts, documentation'
	@echo 'make docs    regenerate docs/reference/cli.md from the commands'
	@echo 'make format  let ruff format and fix'
	@echo 'make clean   remove .venv and caches (a running local cluster is left alone)'

# The stamps depend on what decides the dependencies, so a second run installs nothing.
.venv/.installed: pyproject.toml scripts/make_venv.sh scripts/fetch_pip.py
	@echo 'setting up .venv (once)'
	@sh scripts/make_venv.sh .venv
	@$(PIP) install --upgrade 'pip>=25.1'
	@$(PIP) install -e '.[local]'
	@touch $@

.venv/.installed-dev: .venv/.installed
	@echo 'installing the development tools (once)'
	@$(PIP) install --group dev
	@touch $@

demo: .venv/.installed
	@sh scripts/demo.sh

test: .venv/.installed-dev
	$(BIN)/python -m pytest -n 4 --dist worksteal $(ARGS)

explore: .venv/.installed-dev
	EXPLORE=40 $(BIN)/python -m pytest -n 2 -o timeout=3600 $$(grep -rl properties tests/unit) $(ARGS)

check: .venv/.installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python scripts/cli_reference.py --check
	$(BIN)/python -m pytest -q tests/test_project.py

docs: .venv/.installed-dev
	$(BIN)/python scripts/cli_reference.py

format: .venv/.installed-dev
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
