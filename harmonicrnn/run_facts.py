"""Reads facts on a model from its run's folder: config, training data and likelihood."""

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from harmonicrnn.model_card import check_about
from harmonicrnn.provenance import sha256
from harmonicrnn.runs import CHECKPOINTS, Run

DATA = ("law", "bits", "scaling", "sample_rate", "clip_samples", "order", "eval_context", "eval_clips")
SPLITS = ("test", "validation")


def read_config(run: Run) -> dict[str, Any]:
    """Returns the configuration of a run's training; empty if it is not beside the checkpoint."""
    from omegaconf import OmegaConf  # here, since its import is slow

    if run.checkpoint.parent.name != CHECKPOINTS or not run.config.is_file():
        return {}
    config: dict[str, Any] = OmegaConf.to_container(OmegaConf.load(run.config))  # type: ignore[assignment]
    return config


def run_facts(run: Run) -> dict[str, Any]:
    """Returns the entries of a voice's `about` found in the run's folder; paths are cut to their last name."""
    config, facts = read_config(run), dict[str, Any]()
    data = config.get("data") or {}
    settings = data.get("init_args") or {}
    if data:
        facts["data"] = {"class": str(data.get("class_path", "")).rpartition(".")[2]}
        facts["data"] |= {"folder": Path(str(settings["root"])).name} if settings.get("root") else {}
        facts["data"] |= {key: settings[key] for key in DATA if settings.get(key) is not None}
    model = config.get("model") or {}
    if begun := (model.get("init_args") or model).get("init_from"):
        facts["init_from"] = Path(begun).name if Path(begun).is_absolute() else begun
    own, measured = sha256(run.checkpoint), dict[str, dict[str, Any]]()
    for split in SPLITS:
        # The last one comes last: those before it were renamed, and numbered where names were taken.
        before = sorted(run.folder.glob(f"nll_{split}_*.json"), key=lambda path: (len(path.name), path.name))
        for path in (*before, run.folder / f"nll_{split}.json"):
            with suppress(OSError, ValueError, KeyError, TypeError):
                found = json.loads(path.read_text())
                if found["sha256"] == own and found["batches"] == "all":
                    untrained = [{key: each[key] for key in ("name", "bits_per_sample")} for each in found.get("untrained", [])]
                    kept = {key: found[key] for key in ("split", "bits_per_sample", "samples", "clips", "protocol")}
                    found = kept | {"untrained": untrained}
                    check_about({"likelihood": [found]}, path, "left out")
                    measured[split] = found
    return facts | ({"likelihood": list(measured.values())} if measured else {})
