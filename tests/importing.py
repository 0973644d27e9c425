"""Measures what imports cost and load, each in a fork of a process that has imported only torch and cannot reach the network.

    python -m tests.importing

prints a JSON object with the results.
"""

import importlib
import json
import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from importlib.abc import MetaPathFinder
from pathlib import Path
from typing import Any

CHEAP_S = 1.0
ROOT = Path(__file__).parents[1]
FOLDERS = ["harmonicrnn", "datamodules", "lightning_modules", "callbacks", "cli", "benchmarks"]
OPTIONAL = ["encodec", "frechet_audio_distance", "laion_clap"]
MISSING = [*OPTIONAL, "fcntl", "resource", "triton"]
"""Modules that some systems lack, or that are not in the extra `train`."""


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("the network was touched")


def of_a_child(function: Callable[[], Any]) -> Any:
    """Returns the function's result in a forked process, or the traceback if it raised."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            answer = function()
        except BaseException:
            answer = traceback.format_exc()
        with os.fdopen(writer, "w") as pipe:
            json.dump(answer, pipe)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        answer = json.load(pipe)
    os.waitpid(pid, 0)
    return answer


def library() -> tuple[float, list[str]]:
    """Returns the CPU seconds that importing the library takes, and the names of all modules imported by then."""
    before = time.process_time()
    from harmonicrnn import load  # noqa: F401

    return time.process_time() - before, sorted(sys.modules)


def data() -> list[str]:
    import datamodules  # noqa: F401

    return sorted(sys.modules)


def modules() -> Iterator[str]:
    """Yields the names of all modules but the Triton kernels, which are never imported without Triton."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith("harmonicrnn.ops.triton"):
            yield name


class Missing(MetaPathFinder):
    """An import hook that hides the packages in `MISSING` and records which of them were looked up."""

    def __init__(self) -> None:
        self.looked_for: set[str] = set()

    def find_spec(self, name: str, *_: Any) -> None:
        if name in MISSING:
            self.looked_for.add(name)
            raise ModuleNotFoundError(f"no module named {name}", name=name)


def everything() -> dict[str, list[str]]:
    """Imports every module without what other systems lack; returns the imported modules and the missing ones that were looked up."""
    del os.sched_getaffinity, signal.SIGUSR1, signal.sigwaitinfo
    os.sysconf_names.pop("SC_PHYS_PAGES")
    for name in MISSING:
        sys.modules.pop(name, None)
    missing = Missing()
    sys.meta_path.insert(0, missing)
    for name in ["train", *modules()]:
        importlib.import_module(name)
    return {"imported": sorted(sys.modules), "looked_for": sorted(missing.looked_for)}


def main() -> None:
    socket.socket.connect = socket.getaddrinfo = socket.create_connection = refuse  # type: ignore[method-assign, assignment]
    import torch  # noqa: F401

    answers = {function.__name__: of_a_child(function) for function in (library, data, everything)}
    for _ in range(2):  # measured again if other processes disturbed it
        if not isinstance(answers["library"], str) and answers["library"][0] >= CHEAP_S:
            answers["library"] = of_a_child(library)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
