"""Callback that checks that all ranks have the same code, versions, config, checkpoint and data."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback
from typing_extensions import override

import harmonicrnn
from datamodules import AudioDataModule
from harmonicrnn.parallel.agreement import check_agreement
from harmonicrnn.provenance import provenance, sha256

ROOT = Path(__file__).parents[1]
LIBRARY = Path(harmonicrnn.__file__).parent
EXPERIMENT = ("cli", "callbacks", "datamodules", "lightning_modules")
OWN = ("config", "__default_config__", "ckpt_path", "data.root", "data.shards")
"""Settings that may differ between ranks: paths, whose content is compared instead."""


class Agreement(Callback):
    """Compare the ranks after the data is set up and before training or evaluation starts.

    Args:
        config: Settings by dotted key.
        checkpoint: File to resume or to evaluate.
    """

    def __init__(self, config: Mapping[str, Any], checkpoint: Path | None = None) -> None:
        self.checkpoint = checkpoint
        named = {key.replace("init_args.", ""): str(value) for key, value in config.items()}
        self.config = {key: value for key, value in named.items() if key not in OWN}

    @override
    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if trainer.world_size == 1:
            return
        trainer.strategy.barrier()  # fails at once if a rank has exited, because of bad data for example
        found, data = provenance(), trainer.datamodule
        assert isinstance(data, AudioDataModule)
        check_agreement(
            {
                "code": sources(pl_module, data, *trainer.callbacks),
                "versions": {"python": found["python"]} | found["libraries"],
                "config": self.config,
                "checkpoint": {"content": sha256(self.checkpoint)} if self.checkpoint else {},
                "data": {f"{split} split": data.checksum(split) for split in data.datasets} | {"protocol": data.protocol},
            }
        )


def sources(*used: object) -> dict[str, str]:
    """Return the SHA-256 of each source file of the experiment, of the library and of the classes of `used`, by file name."""
    found = {file.relative_to(ROOT).as_posix(): file for place in EXPERIMENT for file in (ROOT / place).rglob("*.py")}
    found |= {f"harmonicrnn/{file.relative_to(LIBRARY).as_posix()}": file for file in LIBRARY.rglob("*.py")}
    known = {file.resolve() for file in found.values()}
    for name in {type(each).__module__ for each in used}:
        file = getattr(sys.modules[name], "__file__", None)
        if file is not None and Path(file).resolve() not in known and not name.startswith("lightning."):
            found[name] = Path(file)
    return {name: sha256(found[name]) for name in sorted(found)}
