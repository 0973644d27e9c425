"""What imports cost and bring, each found in a fork of a process that has imported torch alone, and that reaches no network.

    python -m tests.importing

prints a JSON object of answers.
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
"""Not on every system, or not in the extra `train`."""


def refuse(*args: Any, **kwargs: Any) -> Any:
    raise RuntimeError("the network was touched")


def of_a_child(function: Callable[[], Any]) -> Any:
    """What the function returns in a forked process; a text where it raised."""
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
    """Seconds of CPU that importing the library takes, and all that is imported then."""
    before = time.process_time()
    from harmonicrnn import load  # noqa: F401

    return time.process_time() - before, sorted(sys.modules)


def data() -> list[str]:
    import datamodules  # noqa: F401

    return sorted(sys.modules)


def modules() -> Iterator[str]:
    """All but the Triton kernels, which nothing imports where there is no Triton."""
    for path in sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        if not name.startswith("harmonicrnn.ops.triton"):
            yield name


class Missing(MetaPathFinder):
    """Finds none of the packages that are missing elsewhere; keeps which were looked for."""

    def __init__(self) -> None:
        self.looked_for: set[str] = set()

    def find_spec(self, name: str, *_: Any) -> None:
        if name in MISSING:
            self.looked_for.add(name)
            raise ModuleNotFoundError(f"no module named {name}", name=name)


def everything() -> dict[str, list[str]]:
    """Every module, without what other systems lack: those that are imported then, and what is missing and was looked for."""
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
    for _ in range(2):  # one disturbed by other processes is measured again
        if not isinstance(answers["library"], str) and answers["library"][0] >= CHEAP_S:
            answers["library"] = of_a_child(library)
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
