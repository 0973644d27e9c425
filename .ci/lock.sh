#!/usr/bin/env bash
# Resolves what is asked for: the pins to requirements-lock.txt, with the hashes that `make` holds what it installs to, and the ranges of core and
# of all extras but `fad` to wheels alone for each Python and system that is meant to work. Versions in the lock file stay while the pins allow them.
set -euo pipefail
cd "$(dirname "$0")/.."

tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/pip" install --quiet uv==0.13.9

export UV_PYTHON_DOWNLOADS=never MACOSX_DEPLOYMENT_TARGET=14.0
resolve() { "$tools/bin/uv" pip compile --quiet --no-header --no-annotate --no-emit-index-url "$@"; }

resolve requirements-dev.txt --universal --python-version 3.11 --generate-hashes --output-file requirements-lock.txt
for python in 3.11 3.12 3.13 3.14; do
    for platform in x86_64-manylinux_2_28 aarch64-apple-darwin; do
        resolve pyproject.toml --extra train --extra hub --extra play --extra serve --upgrade --only-binary :all: --python-version "$python" \
            --python-platform "$platform" --output-file "$tools/wheels"
        echo "# $platform-$python"
        cat "$tools/wheels"
    done
done > "$tools/all"
mv "$tools/all" docs/results/wheels.txt
