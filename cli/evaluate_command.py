"""`python train.py evaluate`: how good models and folders of audio are, as JSON and as a page."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from cli.evaluation_inputs import gather
from cli.evaluation_report import measure
from harmonicrnn.evaluation import write_page
from harmonicrnn.evaluation.page import number
from harmonicrnn.evaluation.report_folder import PAGE, REPORT, begin_folder, choose_folder, save_json
from harmonicrnn.metrics import EmbeddingName


def evaluate(args: Sequence[str], log_folder: Callable[[Sequence[str]], Path]) -> None:
    """Measure runs, checkpoints and folders of audio against a split or a folder, and write a folder with a report.

    Args:
        args: the command line after `evaluate`.
        log_folder: gives the folder that the runs of config files lie in.

    Raises:
        UserError, argparse.ArgumentError: something is wrong with the arguments, the runs, the audio, the weights or the disk.
    """
    own, of_data = split_arguments(args)
    config = make_parser().parse_args(own)
    console = Console(stderr=True)
    work = gather(config, of_data, log_folder(config.config or []))
    for line in work.conversions():
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    settings = work.settings()
    out = choose_folder(config.out, next((s.run.folder for s in work.subjects if s.run), None), settings, config.overwrite)
    begin_folder(out, settings, config.overwrite)
    report, examples = measure(work, out, console)
    report["command"] = shlex.join(["python", "train.py", "evaluate", *args])
    save_json(out / REPORT, report)
    write_page(out / PAGE, report, examples)
    show(report, out)


def split_arguments(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """The arguments of the command, and those of its data (`--data...`, with one value each). They are parsed apart, for the defaults of
    the data are those of a run, which the command's arguments name."""
    own: list[str] = []
    of_data: list[str] = []
    remaining = iter(args)
    for token in remaining:
        if token == "--data" or token.startswith(("--data.", "--data=")):
            of_data.append(token)
            if "=" not in token:
                of_data += [value for value in [next(remaining, None)] if value is not None]
        else:
            own.append(token)
    return own, of_data


def make_parser() -> ArgumentParser:
    """The arguments beside those of the data."""
    parser = ArgumentParser(
        prog="train.py evaluate",
        description="Likelihood, Fréchet audio distance and more of models and folders of audio, as JSON and as a page to see and hear. "
        "Settings of the data are those of the first run, unless they are given (--data.root DIR, say).",
        exit_on_error=False,
    )
    add = parser.add_argument
    add("subjects", nargs="*", type=Path, help="Runs, checkpoints or folders of audio; none for the newest run's best checkpoint.")
    add("-c", "--config", action="append", type=str, help="Path to the config of a training, whose data is compared with.")
    add("--against", type=str, default="test", help="What they are compared with: validation, test, or a folder of audio.")
    add("--clips", type=int, default=256, help="Clips that each model draws.")
    add("--batch", type=int, default=32, help="Clips that are drawn together.")
    add("--seed", type=int, default=0, help="Of the clips, and of the resampling that intervals come from.")
    add("--temperature", type=float, default=1.0, help="Divides the logits.")
    add("--top_p", type=float, default=1.0, help="Draws only among the most likely classes that hold this much of the probability.")
    add("--seconds", type=float | None, default=None, help="Length of the clips that folders are cut into; null for whole files.")
    add("--embeddings", nargs="+", type=EmbeddingName, default=["logmel"], help="Of the FAD: logmel, vggish, pann, encodec, clap.")
    add("--weights", type=Path | None, default=None, help="Folder of the embeddings' weights; null for the folder of torch.hub.")
    add("--extrapolate", action="store_true", help="Extrapolate the FAD to infinitely many clips too (FAD-infinity).")
    add("--classifier", type=Path | None, default=None, help="Checkpoint of a digit classifier, or resnext.pth: adds the SC09 scores.")
    add("--examples", type=int, default=4, help="Clips to see and hear on the page.")
    add("--out", type=Path | None, default=None, help="Folder of the report; null for evaluation_N in the first run's folder.")
    add("--overwrite", action="store_true", help="Replace an evaluation that is in the folder, with its clips.")
    add("--cache", type=Path | None, default=None, help="Folder where statistics of references are kept; null for the user's cache.")
    add("--device", type=Literal["auto", "cpu", "cuda"], default="auto", help="Where models work; auto is a GPU if there is one.")
    return parser


def show(report: dict[str, Any], out: Path) -> None:
    """Prints the table, its notes, and where the rest is."""
    table = Table("what", *(column["title"] for column in report["measures"]))
    for row in (*report["subjects"], *report["real"]):
        cells = [row["values"].get(column["name"]) for column in report["measures"]]
        table.add_row(escape(row["name"]), *("" if cell is None else f"{number(cell['value'])} {_interval(cell)}" for cell in cells))
    console = Console()
    console.print(table)
    for line in (*report["notes"], f"Written to {out / PAGE} and {out / REPORT}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _interval(cell: dict[str, Any]) -> str:
    return "({} to {})".format(*map(number, cell["interval"])) if cell["interval"] else ""
