#!/usr/bin/env bash
# Makes .venv with the pinned packages. Kept in the user's cache folder under a hash of Python's version and the pins, so that a second checkout
# (or the next run of CI) only links to it; HARMONICRNN_NO_CACHE=1 makes a private one instead.
set -euo pipefail
cd "$(dirname "$0")/.."

python=""
for candidate in "${PYTHON:-}" python3.11 python3.12 python3 python; do
    if [ -n "$candidate" ] && "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: Python 3.11 or 3.12 is needed (found: $(python3 --version 2>&1 || echo none)). Install one, or name it: make PYTHON=/path/to/python3.11" >&2
    exit 1
fi
[ "$(uname -s)" = Linux ] || echo "warning: only Linux is tested; the pins may not fit $(uname -s)" >&2

pins=$({ "$python" --version; uname -m; cat requirements-lock.txt; } | sha256sum | cut -c1-16)
if [ -e .venv/pins ] && [ "$(cat .venv/pins)" = "$pins" ]; then
    exit 0
fi
# What this script made for other pins, or was interrupted at, is made anew; another's is left alone.
if [ -L .venv ] || [ -e .venv/harmonicrnn ]; then
    rm -rf .venv
elif [ -e .venv ]; then
    echo "error: there is a .venv that make did not make; move it away, or install requirements-lock.txt into it and call python and pytest yourself" >&2
    exit 1
fi

if [ -n "${HARMONICRNN_NO_CACHE:-}" ]; then
    target=$PWD/.venv
else
    cache=${XDG_CACHE_HOME:-$HOME/.cache}/harmonicrnn
    mkdir -p "$cache"
    target=$cache/$pins
    exec 9>"$target.lock"
    flock 9
fi
if [ ! -e "$target/pins" ]; then
    echo "Installing the pinned packages (about 6 GB, a few minutes) into $target"
    rm -rf "$target"
    "$python" -m venv "$target"
    touch "$target/harmonicrnn"
    "$target/bin/python" -m pip install --quiet --progress-bar off --require-hashes -r requirements-lock.txt
    echo "$pins" >"$target/pins"
fi
[ -e .venv ] || ln -s "$target" .venv
