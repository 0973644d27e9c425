.PHONY: demo test test-all lint environment
SHELL := /bin/bash

environment:
	@bash .ci/environment.sh

test: environment
	.venv/bin/python -m pytest

test-all: environment
	.venv/bin/python -m pytest -m ""

lint: environment
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
