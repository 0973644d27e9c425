"""What imports cost and bring, each found in a fork of a process that has imported torch alone, and that reaches no network.

    python -m tests.importing

prints a JSON object of answers.
"""

import importlib
import json
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

CHEAP_S = 1.0
COMMANDS = ("training_cli", "generate_command", "evaluate_command", "prepare_command", "predictors_command")
EVERYTHING = [*(f"cli.{name}" for name in COMMANDS), "harmonicrnn.evaluation.evaluator", "harmonicrnn.voice", "harmonicrnn.ops.cpu"]
EVERYTHING += ["datamodules.downloads"]


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


def everything() -> list[str]:
    for name in EVERYTHING:
        importlib.import_module(name)
    return sorted(sys.modules)


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
