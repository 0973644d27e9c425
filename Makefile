.PHONY: demo test test-all harden lint environment lock browser
SHELL := /bin/bash

environment:
	@bash .ci/environment.sh

# Resolves the requirements anew; needs the network.
lock:
	@bash .ci/lock.sh

# Draws from the voice in the box; trains, tests and samples a small model on the piano melodies in demo/.
demo: environment
	@.venv/bin/python -m benchmarks.demo

# Processes of one thread each: on two cores more threads wait for one another. Three are about 1 % faster than two.
test: environment
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 3 --dist loadfile

test-all: environment
	OMP_NUM_THREADS=1 .venv/bin/python -m pytest -n 2 --dist loadfile -m ""

# Over two hours: work that is killed at random moments, broken inputs, a disk that fills up; and all commands of README.md and docs.
harden: environment
	.venv/bin/python -m tests.hardening.kills --kills 100
	.venv/bin/python -m tests.hardening.mutations
	.venv/bin/python -m tests.hardening.full_disk
	.venv/bin/python -m tests.hardening.commands

# Debian's Chromium, in which a test opens the page of a report.
browser:
	apt-get update
	apt-get install -y --no-install-recommends chromium

lint: environment
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
