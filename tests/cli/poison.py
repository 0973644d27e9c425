"""Callbacks that make numbers go wrong at step 3."""

import torch
from lightning.pytorch.callbacks import Callback


class PoisonAt(Callback):
    """From step 3 on the output of the first block's MLP is not a number."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 3:
            layer = pl_module.net.levels.pre.blocks[0].mlp
            layer.register_forward_hook(lambda module, inputs, output: output * torch.nan)


class PoisonGradientAt(Callback):
    """At step 3 the gradient of the head's weights is not a number."""

    def on_after_backward(self, trainer, pl_module):
        if trainer.global_step == 3:
            pl_module.net.head.weight.grad.fill_(torch.nan)
