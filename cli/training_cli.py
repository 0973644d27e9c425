"""Commands fit, validate and test: LightningCLI with the project's models, data and callbacks."""

import logging
import shlex
import sys
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from jsonargparse import Namespace
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.utilities import rank_zero_info, rank_zero_only
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from rich.console import Console

from callbacks.agreement_check import Agreement
from callbacks.audio_samples import AudioSamples
from callbacks.checkpoint_files import BestCheckpoint, WholeCheckpointIO
from callbacks.ema import EMA
from callbacks.final_validation import FinalValidation
from callbacks.forgiving_loggers import in_folder
from callbacks.frechet_audio_distance import FrechetAudioDistance
from callbacks.last_checkpoint import LastCheckpoint
from callbacks.nll_report import NLLReport
from callbacks.random_states import RandomStates
from callbacks.recurrence_histograms import RecurrenceHistograms
from callbacks.run_record import RunRecord, run_directory
from callbacks.run_summary import RunSummary
from callbacks.stop_signals import Stopped
from callbacks.throughput import Throughput
from callbacks.training_bar import TrainingBar
from cli.data_options import innermost
from cli.first_pass import BASE, IN_FOLDER, LOGS, NAME, default_configs, keys_of, log_folder, names_a_module, runs_folder
from cli.first_rank import on_first_rank
from cli.progress_bars import progress_bars
from cli.run_folder import new_folder, sole_writer
from datamodules import AudioDataModule
from harmonicrnn.audio.writing import writing
from harmonicrnn.checkpoints import check_fits
from harmonicrnn.errors import UserError
from harmonicrnn.files import check_writable, pasteable, replacing
from harmonicrnn.models import DiagonalRecurrence, GatedRecurrence
from harmonicrnn.old_names import current_settings, of_old_block
from harmonicrnn.ops import choose
from harmonicrnn.parallel import context_size
from harmonicrnn.parallel.faults import names_fault
from harmonicrnn.runs import Run, any_runs, find_run
from lightning_modules import AutoregressiveModule, HarmonicModule, read_checkpoint
from lightning_modules.optimizer import OptimizerConfig, check_ends

EVALUATIONS = ("validate", "test")
DESCRIPTION = "Train HarmonicRNN on raw audio and measure its likelihood. python train.py --help names the other commands."
LOGGER = {
    "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
    "init_args": {"save_dir": LOGS, "name": NAME, "default_hp_metric": False},
}
FROM_DATA = ("bits", "law", "sample_rate")


def train(command: str, options: Namespace, args: Sequence[str]) -> int:
    """Run fit, validate or test and return the exit status.

    Raises:
        UserError, ArgumentError: the arguments, the run or the data are invalid.
    """
    # Lightning 2.6 with torch 2.11 warns at every step.
    warnings.filterwarnings("ignore", message=r"Be aware that when using `ckpt_path`")  # evaluation does not need training's callbacks
    warnings.filterwarnings("ignore", message=r".*isinstance\(treespec, LeafSpec\)")
    # Tips about other products.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(lambda record: "Tip: " not in record.getMessage())
    with ExitStack() as held:
        try:
            HarmonicCLI(command, options, args, held)
        except MisconfigurationException as error:
            raise UserError(str(error)) from error
        except Stopped as stopped:
            if rank_zero_only.rank == 0:
                # The appended --ckpt_path overrides an earlier one.
                again = as_typed(command, [*args, "--ckpt_path", str(stopped.checkpoint)])
                print(f"{stopped}, saved in {stopped.checkpoint}; go on with: {again}", file=sys.stderr)
            return stopped.status
        except RuntimeError as error:
            if not names_fault(error):
                raise
            return 1  # the strategy has printed the error
    return 0


class SaveRunConfig(SaveConfigCallback):
    """Save the full configuration to a training run's folder; evaluations do not change it."""

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        if stage == "fit" and trainer.is_global_zero:
            # The checkpoint this start resumed from is not part of the run's settings.
            config = self.config.clone()
            config.ckpt_path = None
            path = run_directory(trainer) / "config.yaml"
            # Lightning's callback would overwrite the file of a resumed run.
            with writing(path), replacing(path) as file:
                # Valid since it was parsed: checking it again takes as long as the rest.
                file.write(self.parser.dump(config, skip_none=False, skip_validation=True).encode())


class HarmonicCLI(LightningCLI):
    """LightningCLI for fit, validate and test; the latter two load a run's config and checkpoint."""

    _loader_states: Sequence[dict[str, Any]] = ()
    """States of the training loaders of the run to resume."""

    def __init__(self, command: str, options: Namespace, args: Sequence[str], held: ExitStack) -> None:
        self.command, self.typed = command, as_typed(command, args)
        self.run, self.held = requested_run(command, options), held
        # The run's config comes first; the user's settings override it.
        own = [str(self.run.config)] if self.run and self.run.config.is_file() else []
        # Without a class path, the model settings are those of HarmonicModule, without class_path and init_args.
        named = names_a_module(options, own)
        super().__init__(
            L.LightningModule if named else HarmonicModule,
            AudioDataModule,
            save_config_callback=SaveRunConfig,
            trainer_defaults={
                "logger": LOGGER,
                "gradient_clip_val": 1.0,
                "enable_model_summary": False,
                "use_distributed_sampler": False,  # the data deals its batches out to the ranks
            },
            seed_everything_default=0,
            # At the top, so that it reaches the subcommands: interpolation over everything that was given, resolved at the end.
            parser_kwargs={"parser_mode": "omegaconf+", "exit_on_error": False, "allow_abbrev": False, "description": DESCRIPTION}
            | {command: {"default_config_files": default_configs(*own)}},
            subclass_mode_model=named,
            subclass_mode_data=True,
            args=[command, *args],
            auto_configure_optimizers=False,
        )

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        parser = super().init_parser(**kwargs)
        parser.dump = partial(parser.dump, skip_validation=True)  # which takes a tenth of the time until training
        return parser

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Return only the requested subcommand; creating the options of the others would double the start time."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        # The order matters: samples are drawn before the EMA callback restores the current weights.
        parser.add_lightning_class_args(AudioSamples, "samples")
        parser.add_lightning_class_args(FrechetAudioDistance, "fad")
        parser.add_lightning_class_args(EMA, "ema")
        parser.add_class_arguments(LastCheckpoint, "checkpoint", instantiate=False)  # not instantiated if checkpointing is off
        if self.subclass_mode_model:
            parser.set_defaults({"model": {"class_path": "lightning_modules.HarmonicModule"}})
        for key in FROM_DATA:
            # Ignored by the parser for a class that has no such argument.
            parser.link_arguments(f"data.init_args.{key}", f"model.init_args.{key}" if self.subclass_mode_model else f"model.{key}")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = parser.parse_args(args)  # skips Lightning's warning that arguments are given beside a command line

    def _parse_ckpt_path(self) -> None:
        # Lightning would merge the hyperparameters of the checkpoint's model, but not its data: the run's config.yaml holds both.
        return

    def before_instantiate_classes(self) -> None:
        config = self.config[self.command]
        check_trainer(config.trainer)
        trains = self.command not in EVALUATIONS
        if trains:
            self._find_place(config)
        if self.run is None and config.ckpt_path is not None:
            # "last" starts a new run if there is none, so that one command both starts and resumes a job.
            if config.ckpt_path == "last" and not any_runs(self.logs):
                rank_zero_info(f"{self.logs}: no run with a checkpoint to resume: starting a new run")
                config.ckpt_path = None
            else:
                self.run = find_run(config.ckpt_path, self.logs)
        settings = config.model.init_args if self.subclass_mode_model else config.model
        before = keys_of(str(self.run.config), ["model"]).get("model", {}) if self.run else {}
        if of_old_block(before.get("init_args", before)):
            settings.update(Namespace(current_settings({key: settings[key] for key in ("levels", "embedding")})))
        if trains:
            self._prepare_place(config)
        else:
            config.trainer.logger = False
        if self.run:
            config.ckpt_path = str(self.run.checkpoint)
            rank_zero_info(f"Checkpoint {pasteable(self.run.checkpoint)} of run {pasteable(self.run.folder)}")

    def _find_place(self, config: Any) -> None:
        """Determine the folder of runs from the trainer's `default_root_dir` and loggers, and reset the loggers' own folders."""
        if config.trainer.logger in (None, True):
            config.trainer.logger = Namespace(LOGGER | {"init_args": Namespace(LOGGER["init_args"])})
        several = isinstance(config.trainer.logger, list)
        self.loggers = (config.trainer.logger if several else [config.trainer.logger]) if config.trainer.logger else []
        told, self.version = {"default_root_dir": config.trainer.default_root_dir, "class_path": "none"}, None
        for logger in self.loggers:
            if logger.class_path.rpartition(".")[2] in IN_FOLDER:
                told |= {} if several else {"class_path": logger.class_path, **vars(logger.init_args)}
                self.version = logger.init_args.get("version") if self.version is None else self.version
                logger.init_args.update(Namespace(save_dir=LOGS, name=NAME, version=None))
        self.logs = runs_folder(told, NAME)

    def _prepare_place(self, config: Any) -> None:
        if self.run and self.run.goes_on_in_place:
            self.logs = self.run.folder.parent
            if rank_zero_only.rank == 0:
                self.held.enter_context(sole_writer(self.run.folder))
        # Lightning would remove `..` from a path without following symbolic links.
        config.trainer.default_root_dir = str(self.logs.resolve() if ".." in self.logs.parts else self.logs)
        check_writable(self.logs)
        # Another logger class inherits the settings of the default one.
        for logger in self.loggers:
            settings = Namespace() if logger.class_path.rpartition(".")[2] in IN_FOLDER else logger.get("init_args", Namespace())
            for key, before, own in (("save_dir", LOGS, str(self.logs)), ("name", NAME, self.logs.name)):
                if settings.get(key) == before:
                    settings[key] = own

    def before_fit(self) -> None:
        check_ends(self.trainer)
        self._read_data()

    def _read_data(self) -> None:
        """Read the data and check the scan before the run's folder is created; Lightning's own calls come later and do nothing."""
        # Checks without data run on every rank, so that no rank waits for one that has failed.
        if self.trainer.world_size > 1:
            self.datamodule.check_ranks(self.trainer.strategy.distributed_sampler_kwargs["num_replicas"])
        if isinstance(self.model, AutoregressiveModule):
            try:
                choice = choose(self.model.net.scan, self.trainer.strategy.root_device)
            except ValueError as error:
                raise UserError(f"model.{error}") from error
            if any(isinstance(module, (GatedRecurrence, DiagonalRecurrence)) for module in self.model.modules()):
                rank_zero_info(f"Recurrence: {choice.name} ({choice.reason})")
            self.model.check_chunks(self.datamodule, context_size(self.trainer))
        on_first_rank(self.trainer, self.model, self._read_data_alone)

    before_validate = before_test = _read_data

    def _read_data_alone(self) -> None:
        stage = self.command
        self.datamodule.prepare_data()
        self.datamodule.setup(stage)
        for callback in self.trainer.callbacks:
            if isinstance(callback, FrechetAudioDistance):
                callback.check(self.datamodule)
            if isinstance(callback, NLLReport):
                quiet = self.config[self.command].trainer.enable_progress_bar is False
                with progress_bars(Console(stderr=True, quiet=quiet)) as bar:
                    callback.measure(self.trainer, self.datamodule, stage, bar)
        if stage == "fit":
            for state in self._loader_states:
                self.datamodule.train_dataloader().load_state_dict(state)  # now: Lightning does so after it rewrites the run's files
            self._settle()

    def _settle(self) -> None:
        """Set the run's folder as the trainer's `default_root_dir`: a new folder, or that of the run resumed in place."""
        if self.run and self.run.goes_on_in_place:
            folder = self.run.folder
        else:
            folder = new_folder(Path(self.config.fit.trainer.default_root_dir), self.version)
            self.held.enter_context(sole_writer(folder))
        self.trainer._default_root_dir = str(folder)
        settings = [vars(each.get("init_args", Namespace())) for each in self.loggers]
        self.trainer.loggers = [in_folder(*both, folder) for both in zip(self.trainer.loggers, settings, strict=True)]

    def _fixed_callbacks(self, config: Any) -> list[Callback]:
        autoregressive, evaluates = isinstance(self.model, AutoregressiveModule), self.command in EVALUATIONS
        callbacks: list[Callback] = [NLLReport()] if autoregressive else []
        if config.trainer.enable_progress_bar is not False:
            callbacks.append(TrainingBar())
        if evaluates:
            return callbacks
        if autoregressive:
            callbacks += [Throughput(), RecurrenceHistograms(), RunSummary()]
        callbacks += [FinalValidation(), RandomStates(), RunRecord(config.seed_everything, self.typed)]
        if config.trainer.enable_checkpointing is not False:
            best_by = getattr(self.model, "best_by", None)
            callbacks += [BestCheckpoint(*best_by)] if best_by else []
            callbacks.append(LastCheckpoint(**config.checkpoint))
        if config.trainer.logger:
            callbacks.append(LearningRateMonitor(logging_interval="step"))
        return callbacks

    def instantiate_classes(self) -> None:
        model = self.config[self.command].model
        settings = model.init_args if self.subclass_mode_model else model
        begun = settings.get("init_from")
        try:
            if self.run and begun:
                settings.init_from = None  # the weights come from the run's checkpoint
            super().instantiate_classes()
        except ValueError as error:
            raise UserError(str(innermost(error))) from error
        finally:
            if begun:
                settings.init_from = begun  # keep the run's original setting in its config
        if self.run:
            checkpoint = read_checkpoint(self.run.checkpoint)
            check_fits(checkpoint, self.model, self.run.checkpoint)
            if self.command == "fit":
                check_continues(checkpoint, self.trainer, self.model, self.run.checkpoint)
                self._loader_states = checkpoint["loops"]["fit_loop"]["state_dict"]["combined_loader"]

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        config = self.config[self.command]
        self.trainer_defaults["callbacks"] = self._fixed_callbacks(config)
        if config.trainer.accelerator == "auto" and torch.backends.mps.is_available():
            kwargs["accelerator"] = "cpu"  # not in the config, which may be used on another machine
        trainer = super().instantiate_trainer(**kwargs)
        # First, before other callbacks write the run's files.
        agreement = Agreement(vars(config.as_flat()), self.run.checkpoint if self.run else None)
        trainer.callbacks = [agreement, *(callback for callback in trainer.callbacks if self._applies(callback))]
        trainer.strategy.checkpoint_io = WholeCheckpointIO()
        return trainer

    def _applies(self, callback: Callback) -> bool:
        """Return whether a callback of the default configuration is enabled and applies to the model and command."""
        if isinstance(callback, EMA):
            return callback.decay is not None
        if isinstance(callback, FrechetAudioDistance) and (self.command in EVALUATIONS or not callback.clips):
            return False
        return isinstance(self.model, AutoregressiveModule) or not isinstance(callback, (AudioSamples, FrechetAudioDistance))

    def _prepare_subcommand_kwargs(self, subcommand: str) -> dict[str, Any]:
        quiet = {"verbose": False} if subcommand in EVALUATIONS and isinstance(self.model, AutoregressiveModule) else {}
        return super()._prepare_subcommand_kwargs(subcommand) | quiet  # NLLReport prints the table


def requested_run(command: str, options: Namespace) -> Run | None:
    """Return the run to evaluate, whose config gives the defaults of the options; None for training and for `--help`.

    Raises:
        UserError: there is no such run, or it has no config and none is given.
    """
    if options.help or command not in EVALUATIONS:
        return None
    run = find_run(options.ckpt_path, log_folder(options, [str(BASE)]))
    if not run.config.is_file() and not options.config:
        raise UserError(f"{run.checkpoint}: its training settings are unknown, as there is no {run.config}; name a config with --config")
    return run


def check_trainer(config: Namespace) -> None:
    """Raise UserError for trainer settings that are out of range or not supported by this project."""
    mps = config.accelerator == "mps" or (config.accelerator == "gpu" and torch.backends.mps.is_available())
    for key, wrong, what in (
        ("accelerator", mps, "must be cpu or auto on this machine, whose GPU has no float64, in which likelihoods are summed"),
        ("overfit_batches", bool(config.overfit_batches), "is not supported: train on a folder of few recordings"),
        ("fast_dev_run", bool(config.fast_dev_run), "is not supported: set trainer.max_steps and trainer.limit_val_batches to 1"),
        ("barebones", bool(config.barebones), "is not supported, as it leaves no run"),
        ("use_distributed_sampler", bool(config.use_distributed_sampler), "must be false: the data module splits batches over ranks"),
        ("reload_dataloaders_every_n_epochs", config.reload_dataloaders_every_n_epochs != 0, "must be 0: there is nothing to reload"),
        ("log_every_n_steps", (config.log_every_n_steps or 0) < 0, "must be at least 1, or 0 for no curves"),
        ("val_check_interval", config.val_check_interval == 0, "must be above 0; set trainer.limit_val_batches to 0 for no validation"),
        ("check_val_every_n_epoch", config.check_val_every_n_epoch == 0, "must be at least 1, or null to count steps over epochs"),
        ("accumulate_grad_batches", config.accumulate_grad_batches < 1, "must be at least 1"),
        ("max_steps", config.max_steps == 0, "must be above 0, or -1 for no limit"),
        ("limit_train_batches", config.limit_train_batches == 0, "must be above 0: there is nothing to train on"),
        ("min_steps", 0 <= config.max_steps < (config.min_steps or 0), f"must be at most trainer.max_steps, {config.max_steps}"),
        ("gradient_clip_val", not (config.gradient_clip_val or 0) >= 0, "must be 0 or more; null for no clipping"),
    ):
        if wrong:
            raise UserError(f"trainer.{key} {what}, got {config[key]}")


def check_continues(checkpoint: dict[str, Any], trainer: Trainer, model: L.LightningModule, path: Path) -> None:
    """Raise UserError if training cannot be resumed from a checkpoint with the current settings."""
    if isinstance(config := getattr(model, "optimizer", None), OptimizerConfig) and checkpoint["lr_schedulers"]:
        decayed = "all" if len(checkpoint["optimizer_states"][0]["param_groups"]) == 1 else "matrices"
        if config.decayed != decayed:
            raise UserError(
                f"{path}: was trained with model.optimizer.decayed {decayed}: set it back, or start anew with --model.init_from"
            )
    averaged = "current_model_state" in checkpoint
    if averaged != any(isinstance(callback, EMA) for callback in trainer.callbacks):
        state = "averaged weights" if averaged else "no averaged weights"
        raise UserError(f"{path}: was trained with {state}: set ema.decay as it was, or start anew from it with --model.init_from")
    if 0 <= trainer.max_steps <= checkpoint["global_step"]:
        raise UserError(f"{path}: is at step {checkpoint['global_step']} of trainer.max_steps ({trainer.max_steps}): nothing is left to do")


def as_typed(command: str, args: Sequence[str]) -> str:
    """Return a command line quoted for a shell."""
    return shlex.join(["python", "train.py", command, *args])
