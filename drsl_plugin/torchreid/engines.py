"""The engines that train with DRSL: one training step each, everything else is Torchreid's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from drsl_plugin.errors import RangeError, SettingError
from drsl_plugin.losses import (
    DRSLoss,
    DRSLParts,
    FeatureLosses,
    TemperatureSchedule,
    TwoStage,
    distributed_drsl_loss,
)
from drsl_plugin.losses.filling import fill_memories, is_filling_due
from drsl_plugin.losses.nested import join_outputs
from drsl_plugin.losses.settings import Fill, TrainingSettings
from drsl_plugin.losses.two_stage import unwrap
from drsl_plugin.toolbox.rules import Keyed, bad_sub_batch
from drsl_plugin.toolbox.streams import copy_loader, keep_patch_pools
from drsl_plugin.toolbox.types import Scheduler
from drsl_plugin.torchreid.checkpoints import save_engine
from drsl_plugin.torchreid.host import torchreid
from drsl_plugin.torchreid.keys import DRSL_KEYS
from drsl_plugin.torchreid.memory import check_fresh_memory, count_training_images, make_memory
from drsl_plugin.torchreid.step_checks import check_finite, list_features, split_outputs
from drsl_plugin.torchreid.types import DataManager, Features


class ImageDRSLEngine(torchreid.engine.Engine):
    r"""Train an image model with :math:`w L_{DRSL} + w_x L_{CE}`.

    Args:
        datamanager: a ``torchreid.data.ImageDataManager`` with ``train_sampler='RandomIdentitySampler'``.
        model: built with ``loss='drsl'`` after :func:`~drsl_plugin.torchreid.register`, or with ``loss='triplet'``:
            returns logits and features in training, either of them a tensor or a tuple of tensors.
        optimizer: of ``torchreid.optim.build_optimizer``, or any other.
        criterion: the loss; None is ``DRSLoss()``. Each further feature of a model has a copy of it, with a memory of
            its own where it has one, which is made here where its size is a share of the training images.
        weight: weight of DRSL, 0 or above.
        weight_x: weight of the cross-entropy, 0 or above.
        scheduler: steps once an epoch; None keeps the learning rate.
        use_gpu: use CUDA where there is one.
        label_smooth: smooth the labels of the cross-entropy.
        schedule: of the temperature, over the steps that ``run`` announces; None keeps the criterion's.
        sub_batch: samples (in video tracklets) whose graph is in memory at once, a divisor of the batch; 0 for all. See
            :class:`~drsl_plugin.losses.TwoStage`.
        memory_fill: what a memory holds when it first takes part: ``"fresh"``, embeddings of training images by the
            model as it then is, see :func:`~drsl_plugin.losses.filling.fill_memories`; or ``"stored"`` in the steps
            before.

    Raises:
        ValueError: a setting outside its range, both weights 0, or too few training images for a fresh memory.

    Example::

        from drsl_plugin.torchreid import ImageDRSLEngine, register

        register()
        datamanager = torchreid.data.ImageDataManager(
            root="reid-data", sources="market1501", batch_size_train=64, num_instances=4,
            train_sampler="RandomIdentitySampler",
        )
        model = torchreid.models.build_model("osnet_x1_0", datamanager.num_train_pids, loss="drsl")
        optimizer = torchreid.optim.build_optimizer(model, lr=0.0003)
        scheduler = torchreid.optim.build_lr_scheduler(optimizer, stepsize=20)
        engine = ImageDRSLEngine(datamanager, model, optimizer, scheduler=scheduler)
        engine.run(max_epoch=60, save_dir="log/osnet_x1_0_drsl")
    """

    def __init__(
        self,
        datamanager: DataManager,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        criterion: DRSLoss | None = None,
        weight: float = 1.0,
        weight_x: float = 1.0,
        scheduler: Scheduler | None = None,
        use_gpu: bool = True,
        label_smooth: bool = True,
        schedule: TemperatureSchedule | None = None,
        sub_batch: int = 0,
        memory_fill: Fill = "fresh",
    ) -> None:
        """Check the weights and build the criterion of the cross-entropy."""
        super().__init__(datamanager, use_gpu)
        TrainingSettings(weight=weight, weight_x=weight_x, sub_batch=sub_batch, memory_fill=memory_fill)
        self.model = model
        self.optimizer = optimizer
        self.scheduler = scheduler
        self.register_model("model", model, optimizer, scheduler)
        self.weight = weight
        self.weight_x = weight_x
        self.criterion = DRSLoss() if criterion is None else criterion
        make_memory(self.criterion, datamanager)
        self.criteria = FeatureLosses(self.criterion)
        self.schedule = TemperatureSchedule(self.criterion.temperature) if schedule is None else schedule
        self.sub_batch = sub_batch
        self.memory_fill = memory_fill
        if memory_fill == "fresh":
            check_fresh_memory(self.criterion, datamanager)
        self.criterion_x = torchreid.losses.CrossEntropyLoss(
            num_classes=self.datamanager.num_train_pids, use_gpu=self.use_gpu, label_smooth=label_smooth
        )

    def forward_backward(self, data: dict[str, Any]) -> dict[str, float]:
        """Take one training step.

        Args:
            data: a batch of the data manager.

        Returns:
            The values for the logs: ``loss_drsl``, its parts ``ranking``, ``sorting``, ``ap``, ``above_all``, and
            ``loss_x`` and ``acc`` of the cross-entropy; a term of weight 0 is left out. With a schedule that is not
            constant, ``temperature`` too.

        Raises:
            DRSLError: a loss is not finite, or the sub-batch does not divide the batch; the step is not taken.
        """
        if self.memory_fill == "fresh" and self.weight > 0 and is_filling_due(self.criteria):
            self._fill_memories()
        images, pids = self._read(data)
        two_stage = self._first_stage(images, len(data["pid"])) if self.sub_batch else None
        logits, features = split_outputs(two_stage.outputs if two_stage else self.model(images))

        terms: list[Tensor] = []
        values: dict[str, Tensor] = {}
        if self.weight > 0:
            loss, parts = self._drsl(features, pids)
            terms.append(self.weight * loss)
            values.update(loss_drsl=loss.detach(), **parts._asdict())
        if self.weight_x > 0:
            loss_x = self.compute_loss(self.criterion_x, logits, pids)
            terms.append(self.weight_x * loss_x)
            values.update(loss_x=loss_x.detach(), acc=torchreid.metrics.accuracy(logits, pids)[0].reshape(()))
        # One transfer for all values: each .item() would wait for the device.
        summary = dict(zip(values, torch.stack([v.double() for v in values.values()]).tolist(), strict=True))
        check_finite(self, summary)
        if self.weight > 0 and not self.schedule.is_constant:
            summary["temperature"] = self.criterion.temperature

        self.optimizer.zero_grad()
        torch.autograd.backward(torch.stack(terms).sum())
        if two_stage:
            two_stage.backward()
        self.optimizer.step()
        return summary

    def two_stepped_transfer_learning(
        self, epoch: int, fixbase_epoch: int, open_layers: Any, model: nn.Module | None = None
    ) -> None:
        """Open the layers of this epoch; until all are open the memories wait.

        Fixed layers are in evaluation mode: their embeddings are none to compare those of the training with, and DRSL
        cannot move them.
        """
        super().two_stepped_transfer_learning(epoch, fixbase_epoch, open_layers, model)
        self.criteria.train(epoch >= fixbase_epoch or open_layers is None)

    def save_model(self, epoch: int, rank1: float, save_dir: str, is_best: bool = False) -> None:
        """Write a checkpoint under Torchreid's names; see :func:`~drsl_plugin.torchreid.checkpoints.save_engine`."""
        save_engine(self, epoch, save_dir, is_best=is_best, rank1=float(rank1))

    def _read(self, data: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """Return the images of a batch and their identities, on the device."""
        images, pids = self.parse_data_for_train(data)
        return (images.cuda(), pids.cuda()) if self.use_gpu else (images, pids)

    def _first_stage(self, images: Tensor, batch: int) -> TwoStage:
        """Forward a batch of so many samples, each of one image or of all frames of a tracklet, in sub-batches."""
        with self._in_sub_batches(images, batch) as pieces:
            return TwoStage(self.model, pieces)

    @contextlib.contextmanager
    def _in_sub_batches(self, images: Tensor, batch: int) -> Iterator[Sequence[Tensor]]:
        """Cut the images of so many samples into sub-batches, and name the setting where these cannot be forwarded."""
        size = Keyed(DRSL_KEYS.dotted("sub_batch"), self.sub_batch)
        for error in bad_sub_batch(size, batch, f"a batch of {batch}"):
            raise error
        try:
            yield torch.split(images, self.sub_batch * len(images) // batch)
        except ValueError as error:  # such as batch norm's, which cannot train on a single sample
            raise SettingError(*size, str(error)) from error

    def _fill_memories(self) -> None:
        """Fill the memories with embeddings of training images, from a pass of its own over the training's loader."""
        loader = self.train_loader
        with DRSL_KEYS.name_errors(), keep_patch_pools(loader):
            known = count_training_images(self.datamanager) is not None  # and then enough of them
            count = fill_memories(self.criteria, self.model, copy_loader(loader), self._embed, repeat=known)
        print(f"Memory filled with the embeddings of {count} training images")

    def _embed(self, data: dict[str, Any]) -> tuple[Sequence[Tensor], Tensor]:
        """Return the features of a batch that the loss would get in a step, and the identities."""
        images, pids = self._read(data)
        network = unwrap(self.model)
        if self.sub_batch:
            with self._in_sub_batches(images, len(data["pid"])) as pieces:
                outputs = join_outputs([network(piece) for piece in pieces])
        else:
            outputs = network(images)
        return list_features(split_outputs(outputs)[1]), pids

    def _follow_schedule(self) -> None:
        """Give the loss the temperature of this step, by its place in the training and by nothing else."""
        if not self.schedule.is_constant:
            # As announced: the identity sampler ends an epoch earlier where it cannot fill a batch.
            step = self.epoch * self.num_batches + self.batch_idx
            self.criteria.set_temperature(self.schedule.at(step, self.max_epoch * self.num_batches))

    def _drsl(self, features: Features, pids: Tensor) -> tuple[Tensor, DRSLParts]:
        """Loss and parts, averaged over the features of a model that returns several."""
        self._follow_schedule()
        several = enumerate(list_features(features))
        with DRSL_KEYS.name_errors():
            results = [distributed_drsl_loss(self.criteria.of(i), each, pids) for i, each in several]
        loss = torch.stack([loss for loss, _ in results]).mean()
        parts = DRSLParts(*(torch.stack(part).mean() for part in zip(*(p for _, p in results), strict=True)))
        return loss, parts


class VideoDRSLEngine(ImageDRSLEngine):
    """Train a video model with DRSL: each frame is an instance of its tracklet's identity.

    Args:
        *args: as for :class:`ImageDRSLEngine`; the data manager is a ``torchreid.data.VideoDataManager``.
        pooling_method: how the frames of a tracklet become one feature in evaluation, ``"avg"`` or ``"max"``.
        **kwargs: as for :class:`ImageDRSLEngine`.

    Raises:
        ValueError: a setting outside its range.
    """

    def __init__(self, *args: Any, pooling_method: str = "avg", **kwargs: Any) -> None:
        """Check and keep the pooling method."""
        super().__init__(*args, **kwargs)
        if pooling_method not in ("avg", "max"):
            raise RangeError("pooling_method", pooling_method, "'avg' or 'max'")
        self.pooling_method = pooling_method

    parse_data_for_train = torchreid.engine.VideoTripletEngine.parse_data_for_train
    extract_features = torchreid.engine.VideoTripletEngine.extract_features
