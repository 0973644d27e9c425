"""A callback that ends a run half-way, as an interruption would."""

from lightning.pytorch.callbacks import Callback


class StopAt(Callback):
    """Stops after the validation at step 2."""

    def on_validation_end(self, trainer, pl_module):
        trainer.should_stop = trainer.global_step == 2
