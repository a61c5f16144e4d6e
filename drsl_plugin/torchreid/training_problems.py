"""What is wrong with the settings of a loss, and whether it can be trained as a configuration says."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from drsl_plugin.errors import SettingError
from drsl_plugin.toolbox.rules import (
    Keyed,
    bad_sub_batch,
    multiples,
    no_positives,
    small_budget,
    small_memory,
    unfit_backend,
)
from drsl_plugin.toolbox.types import ConfigNode
from drsl_plugin.torchreid.keys import DRSL_KEYS

IDENTITY_SAMPLER = "RandomIdentitySampler"


def training_problems(cfg: ConfigNode, processes: int = 1, wrong: Collection[str] = ()) -> Iterator[SettingError]:
    """Yield what is wrong with the settings of the loss, and with those that decide whether it can train.

    Args:
        cfg: the configuration, merged; one that evaluates only needs a right loss alone.
        processes: how many share a batch.
        wrong: the keys whose values are known to be wrong already; what depends on them is left out.
    """
    trains = not cfg.test.evaluate
    can_judge_batch = trains and not {"sampler.train_sampler", "sampler.num_instances", "train.batch_size"} & set(wrong)
    if can_judge_batch:
        yield from _batch_problems(cfg, processes)
    if cfg.loss.name == "drsl":
        found = list(DRSL_KEYS.problems(cfg.loss.drsl))
        yield from found
        backend = DRSL_KEYS.values(cfg.loss.drsl).get("backend")
        yield from unfit_backend(Keyed(DRSL_KEYS.dotted("backend"), backend), bool(cfg.use_gpu))
        if can_judge_batch and "video.seq_len" not in wrong:
            yield from _drsl_problems(cfg, processes, {error.setting for error in found})
        if trains:
            yield from _untrained_classifier(cfg, Keyed(DRSL_KEYS.dotted("weight_x"), cfg.loss.drsl.weight_x))
    elif cfg.loss.name == "triplet" and trains:
        node = cfg.loss.triplet
        if node.weight_t == node.weight_x == 0:
            yield SettingError(
                "loss.triplet.weight_t 0, loss.triplet.weight_x", 0, "nothing would be trained; raise one"
            )
        yield from _untrained_classifier(cfg, Keyed("loss.triplet.weight_x", node.weight_x))


def _batch_problems(cfg: ConfigNode, processes: int) -> Iterator[SettingError]:
    """Yield an error where a batch is not made of whole identities, or cannot be shared by the processes."""
    batch, instances = Keyed("train.batch_size", cfg.train.batch_size), cfg.sampler.num_instances
    draws_identities = cfg.sampler.train_sampler == IDENTITY_SAMPLER
    unit = processes * instances if draws_identities else processes
    if batch.value % unit:
        if processes == 1:
            needs = f"no multiple of sampler.num_instances {instances}, so identities would repeat in a batch"
        elif draws_identities:
            needs = f"is the batch of all {processes} processes, each with whole identities of sampler.num_instances "
            needs += f"{instances} images"
        else:
            needs = f"is the batch of all {processes} processes, each with as many images"
        yield SettingError(*batch, f"{needs}; {multiples(batch.value, unit)} would do")
    elif processes > 1 and draws_identities and batch.value == unit and cfg.loss.name == "triplet":
        needs = f"is the batch of all {processes} processes, each with one identity, among which Torchreid's triplet "
        yield SettingError(*batch, f"{needs}loss finds no negatives; {2 * unit} would do")


def _drsl_problems(cfg: ConfigNode, processes: int, wrong: Collection[str]) -> Iterator[SettingError]:
    node = {**DRSL_KEYS.defaults(), **cfg.loss.drsl}
    batch, samples, made_of = cfg.train.batch_size, 1, "train.batch_size"
    if cfg.data.type == "video":
        samples, made_of = cfg.video.seq_len, "train.batch_size times video.seq_len"
    # In video the frames of a tracklet are positives of one another, whatever the sampler.
    if node["weight"] != 0 and samples == 1:
        sampler = Keyed("sampler.train_sampler", cfg.sampler.train_sampler)
        instances = Keyed("sampler.num_instances", cfg.sampler.num_instances)
        yield from no_positives(sampler, instances, (IDENTITY_SAMPLER,), f"use {IDENTITY_SAMPLER}")
    memory, sub_batch = (Keyed(DRSL_KEYS.dotted(name), node[name]) for name in ("memory_size", "sub_batch"))
    if memory.key not in wrong:
        whole = batch * samples
        yield from small_memory(memory, whole, f"a batch, which has {whole} images ({made_of})")
        if not wrong:
            budget, instances = Keyed(DRSL_KEYS.dotted("chunk_budget"), node["chunk_budget"]), cfg.sampler.num_instances
            yield from small_budget(budget, DRSL_KEYS.of_loss(node), whole, instances * samples)
    if sub_batch.key not in wrong:
        yield from bad_sub_batch(sub_batch, batch, f"train.batch_size {batch}", processes)


def _untrained_classifier(cfg: ConfigNode, weight: Keyed) -> Iterator[SettingError]:
    epochs = Keyed("train.fixbase_epoch", cfg.train.fixbase_epoch)
    if weight.value == 0 and epochs.value > 0:
        needs = f"with {weight.key} 0 the classifier gets no gradient, so there is nothing to train while the base is "
        yield SettingError(*epochs, f"{needs}fixed; use 0")
