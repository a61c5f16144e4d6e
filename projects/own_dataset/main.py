"""Train Torchreid with DRSL on images of your own: a main to copy and change.

    python main.py ROOT [--model osnet_x1_0] [--epochs 60] [--save-dir log/own_dataset] [--no-pretrained]

ROOT holds ``train``, ``query`` and ``gallery``, each with a folder an identity, whose name is a number, of images whose
names begin with their camera: ``train/0007/c2_000153.jpg``.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import torch
import torchreid

from drsl_plugin.torchreid import ImageDRSLEngine, register


class FolderDataset(torchreid.data.ImageDataset):
    """A folder an identity, cameras in the file names."""

    def __init__(self, root: str = "", **kwargs: Any) -> None:
        train, query, gallery = (self.read(Path(root, split)) for split in ("train", "query", "gallery"))
        labels = {pid: label for label, pid in enumerate(sorted({pid for _, pid, _ in train}))}
        train = [(path, labels[pid], camid) for path, pid, camid in train]  # the classifier counts from 0
        super().__init__(train, query, gallery, **kwargs)

    @staticmethod
    def read(folder: Path) -> list[tuple[str, int, int]]:
        found = []
        for path in sorted(folder.glob("*/*")):
            camera = re.match(r"c(\d+)_", path.name)
            if camera is None or not path.parent.name.isdigit():
                raise SystemExit(f"{path}: expected a path like {folder}/0007/c2_000153.jpg")
            found.append((str(path), int(path.parent.name), int(camera.group(1)) - 1))
        if not found:
            raise SystemExit(f"{folder}: no images; expected paths like {folder}/0007/c2_000153.jpg")
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root")
    parser.add_argument("--model", default="osnet_x1_0")
    parser.add_argument("--no-pretrained", action="store_true", help="start from scratch")
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--height", type=int, default=256)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--identities", type=int, default=16, help="in a batch")
    parser.add_argument("--instances", type=int, default=4, help="of an identity in a batch")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--save-dir", default="log/own_dataset")
    args = parser.parse_args()

    pids = {pid for _, pid, _ in FolderDataset.read(Path(args.root, "train"))}
    if len(pids) < args.identities:
        raise SystemExit(f"--identities {args.identities}: {args.root}/train has {len(pids)} identities")
    register()
    torchreid.data.register_image_dataset("own", FolderDataset)
    datamanager = torchreid.data.ImageDataManager(
        root=args.root,
        sources="own",
        height=args.height,
        width=args.width,
        transforms=["random_flip", "random_crop"],
        batch_size_train=args.identities * args.instances,
        num_instances=args.instances,
        train_sampler="RandomIdentitySampler",
        workers=args.workers,
    )
    model = torchreid.models.build_model(
        args.model, datamanager.num_train_pids, loss="drsl", pretrained=not args.no_pretrained
    )
    if torch.cuda.is_available():
        model = torch.nn.DataParallel(model).cuda()
    optimizer = torchreid.optim.build_optimizer(model, optim="adam", lr=0.0003)
    scheduler = torchreid.optim.build_lr_scheduler(optimizer, lr_scheduler="cosine", max_epoch=args.epochs)
    engine = ImageDRSLEngine(datamanager, model, optimizer, scheduler=scheduler)
    engine.run(save_dir=args.save_dir, max_epoch=args.epochs, dist_metric="cosine", print_freq=10)


if __name__ == "__main__":
    main()
