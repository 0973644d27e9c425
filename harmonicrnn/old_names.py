"""Where classes lay before version 0.2: class paths in configs and checkpoints of then are still understood."""

MOVED = {
    "parallel": "harmonicrnn.parallel",
    "models": "harmonicrnn.models",
    "lightning_modules.autoregressive": "lightning_modules.autoregressive_module",
    "lightning_modules.baselines": "lightning_modules.baseline_modules",
    "lightning_modules.digits": "lightning_modules.digit_module",
    "lightning_modules.harmonic": "lightning_modules.harmonic_module",
    "datamodules.base": "datamodules.audio_datamodule",
    "datamodules.memory": "datamodules.memory_task",
    "callbacks.checkpoints": "callbacks.checkpointing",
}
"""Old module to new one; what lies below a module moved with it."""


def current(class_path: str) -> str:
    """The class path as it is now: of a class that moved its new one, of any other the same."""
    for old, new in MOVED.items():
        if class_path.startswith(f"{old}."):
            return new + class_path.removeprefix(old)
    return class_path
