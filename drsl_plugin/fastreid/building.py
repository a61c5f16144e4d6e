"""What a training is built of: FastReID's own, with DRSL, and with or without CUDA."""

from __future__ import annotations

import logging

import torch
from torch import nn
from torch.utils.data import DataLoader

from drsl_plugin.errors import SettingError
from drsl_plugin.fastreid.compat import is_cpu, keep_images, use_plain_loaders
from drsl_plugin.fastreid.datasets import check_batches
from drsl_plugin.fastreid.evaluation import FeatureEvaluator
from drsl_plugin.fastreid.host import fastreid
from drsl_plugin.fastreid.ineffective import check_frozen_layers
from drsl_plugin.fastreid.meta_arch import build_model
from drsl_plugin.fastreid.reading import checked_sets
from drsl_plugin.fastreid.recording import LinePrinter
from drsl_plugin.fastreid.targets import check_loader
from drsl_plugin.fastreid.telling import tell_results
from drsl_plugin.fastreid.types import EventWriter, Results
from drsl_plugin.toolbox.types import ConfigNode

logger = logging.getLogger("fastreid.drsl")


class TrainerParts(fastreid.engine.DefaultTrainer):
    """What FastReID's ``DefaultTrainer`` builds and evaluates with, on today's torch."""

    @classmethod
    def build_model(cls, cfg: ConfigNode) -> nn.Module:
        """Build the model, with DRSL where ``MODEL.LOSSES.NAME`` holds it."""
        return build_model(cfg, super().build_model)

    @classmethod
    def build_optimizer(cls, cfg: ConfigNode, model: nn.Module) -> tuple[torch.optim.Optimizer, object]:
        """Build the optimizer, and what wraps the parameters.

        Raises:
            SettingError: it cannot be built with these settings, or ``MODEL.FREEZE_LAYERS`` are none of the model's.
        """
        check_frozen_layers(cfg, model)
        try:
            optimizer, wrapper = super().build_optimizer(cfg, model)
        except ValueError as error:  # of torch, which knows what its optimizers take
            raise SettingError("SOLVER.OPT", cfg.SOLVER.OPT, str(error)) from error
        return optimizer, wrapper

    @classmethod
    def build_train_loader(cls, cfg: ConfigNode) -> DataLoader[object]:
        """Build the loader of the training set.

        Raises:
            SettingError: no such data set, or one that cannot fill a batch.
        """
        with (
            use_plain_loaders(cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS),
            checked_sets(cfg, "NAMES", cfg.DATASETS.NAMES),
        ):
            loader: DataLoader[object] = super().build_train_loader(cfg)
        check_batches(cfg, loader.dataset)  # type: ignore[arg-type]  # of FastReID's class
        return loader

    @classmethod
    def build_test_loader(cls, cfg: ConfigNode, dataset_name: str) -> tuple[DataLoader[object], int]:
        """Build the loader of a target, and count its queries.

        Raises:
            SettingError: no such data set.
        """
        with (
            use_plain_loaders(cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS),
            checked_sets(cfg, "TESTS", [dataset_name]),
        ):
            loader, queries = super().build_test_loader(cfg, dataset_name)
            return loader, queries

    @classmethod
    def build_evaluator(
        cls, cfg: ConfigNode, dataset_name: str, output_dir: str | None = None
    ) -> tuple[DataLoader[object], FeatureEvaluator]:
        """Build the loader and the evaluator of a target.

        Raises:
            SettingError: no query of the target has a match.
        """
        loader, num_query = cls.build_test_loader(cfg, dataset_name)
        check_loader(dataset_name, loader, num_query)
        return loader, FeatureEvaluator(cfg, num_query, output_dir, target=dataset_name)

    def build_writers(self) -> list[EventWriter]:
        """Build FastReID's writers; the line on the console shows the batch's AP as well."""
        writers: list[EventWriter] = super().build_writers()
        printer = fastreid.utils.events.CommonMetricPrinter
        return [LinePrinter(self.max_iter) if type(writer) is printer else writer for writer in writers]

    @classmethod
    def test(cls, cfg: ConfigNode, model: nn.Module) -> Results:
        """Evaluate as FastReID does, target by target; leave each layer in its mode: frozen ones stay frozen."""
        modes = {module: module.training for module in model.modules()}
        results: dict[str, Results] = {}
        try:
            with keep_images(model):
                for target in cfg.DATASETS.TESTS:
                    alone = cfg.clone()
                    alone.defrost()
                    alone.DATASETS.TESTS = (target,)
                    results[target] = super().test(alone, model)
                    tell_results(target, results[target])
        finally:
            for module, mode in modes.items():
                module.training = mode
        return results if len(results) != 1 else results[target]


def switch_amp_off_on_cpu(cfg: ConfigNode) -> ConfigNode:
    """Switch mixed precision off on the CPU, where FastReID's needs CUDA; every published configuration sets it."""
    if not (cfg.SOLVER.AMP.ENABLED and is_cpu(cfg.MODEL.DEVICE)):
        return cfg
    logger.warning("SOLVER.AMP.ENABLED True is for CUDA: on MODEL.DEVICE cpu this run trains in float32")
    cfg = cfg.clone()
    frozen = cfg.is_frozen()
    cfg.defrost()
    cfg.SOLVER.AMP.ENABLED = False
    if frozen:
        cfg.freeze()
    return cfg
