# What a user types. Everything runs from .venv, made on first use from the lock file.
SHELL := /bin/sh
PYTHON ?= python3
BIN := .venv/bin
RUN := $(BIN)/python -m

.DEFAULT_GOAL := help
.PHONY: help demo up down status load-listings image dev test lint format bench screenshots lock preflight aws-smoke deploy-api clean

help:  ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' Makefile | awk -F'|' '{printf "  make %-14s %s\n", $$1, $$2}'

.venv/.installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,14))' || \
		{ echo "Python 3.11, 3.12 or 3.13 is needed; name one with 'make PYTHON=python3.12 …'." >&2; exit 1; }
	@echo "Installing the packages into .venv (once) …"
	@$(PYTHON) -m venv .venv
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

.venv/.installed-dev: requirements-dev.lock .venv/.installed
	@echo "Installing the development packages into .venv (once) …"
	@PYTHONDONTWRITEBYTECODE= $(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements-dev.lock
	@touch $@

demo: .venv/.installed  ## Set up, start the services, run both pipelines, show what came out
	@$(RUN) embedded demo

up: .venv/.installed  ## Start the services, Dagster's UI and the digit page in the background
	@$(RUN) embedded up

down: .venv/.installed  ## Stop all of it; the data stay
	@$(RUN) embedded down

status: .venv/.installed  ## What runs, and where
	@$(RUN) embedded status

load-listings: .venv/.installed  ## CSV=… DATE=YYYY-MM-DD: an Inside Airbnb file into the table
	@$(RUN) embedded load-listings "$(CSV)" "$(DATE)" $(if $(filter 1,$(ALLOW_ROUNDED_IDS)),--allow-rounded-ids)

image: .venv/.installed  ## Build the number cruncher's image
	@$(RUN) numbercruncher.image

dev: .venv/.installed-dev  ## The development packages: dg, and what tests and lint need

test: .venv/.installed-dev  ## All tests, against the embedded services
	@PYTHONDONTWRITEBYTECODE= $(RUN) pytest $(ARGS)  # hundreds of processes load the same modules

lint: .venv/.installed-dev  ## ruff and pyright
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/pyright

format: .venv/.installed-dev  ## Let ruff mend what it can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

bench: .venv/.installed-dev  ## All benchmarks, or NAME=… for one: a JSON line each
	@$(RUN) benchmarks $(NAME)

screenshots: .venv/.installed-dev  ## The README's pictures anew, of the stack that runs the demo
	@$(RUN) docs.take_screenshots

lock: .venv/.installed-dev  ## Resolve the ranges of pyproject.toml into the lock files anew
	@$(BIN)/pip install --quiet uv
	@$(BIN)/uv pip compile pyproject.toml $(LOCK_FLAGS) --all-extras --upgrade -o requirements-dev.lock
	@$(BIN)/uv pip compile pyproject.toml $(LOCK_FLAGS) --extra embedded --extra api -c requirements-dev.lock -o requirements.lock
	@$(BIN)/uv pip compile numbercruncher/requirements.in $(subst --universal,--python-platform linux,$(LOCK_FLAGS)) -c requirements.lock -o numbercruncher/requirements.txt
	@$(BIN)/uv pip compile deploy/api/requirements.in $(LOCK_FLAGS) --upgrade -o deploy/api/requirements.txt
	@$(BIN)/uv pip compile deploy/celery/requirements.in $(subst --universal,--python-platform linux,$(LOCK_FLAGS)) -c requirements-dev.lock -o deploy/celery/requirements.txt
LOCK_FLAGS := --universal --no-strip-extras --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --no-annotate --quiet

preflight: .venv/.installed  ## What of AWS is missing for the platform, and how to mend it; changes nothing
	@$(RUN) deploy.preflight $(wildcard deploy/private/platform)

aws-smoke: .venv/.installed  ## Both chains once on AWS, what they cost, and all of it removed; wants empty buckets
	@$(RUN) deploy.aws_smoke $(if $(filter 1,$(CLEAN)),--clean) $(wildcard deploy/private/platform)

deploy-api: .venv/.installed  ## The HTTP API to AWS as a Lambda; deploy/README.md says what it needs
	@$(BIN)/python deploy/deploy_api.py

clean: down  ## Stop everything and remove the state: the next demo starts from nothing
	@rm -rf .platform
