#!/usr/bin/env python3
"""Writes what the test `features_and_logits_are_torchvisions` compares with: inception_fixture.py FOLDER

Needs torch, torchvision and safetensors. Two networks of random weights, as torchvision's Inception-v3 and as its FID
variant (fid.safetensors, torchvision.safetensors), some images, and the features and logits of both networks in double
precision (cases.safetensors). The test finds the folder through the variable SUBMASK_INCEPTION_FIXTURE.
"""

import pathlib
import sys

import torch
import torchvision.models.inception as inception
from safetensors.torch import save_file

FUNCTIONAL = inception.F


class FidPooling:
    """torch.nn.functional, except that pooling in the blocks is that of the FID network."""

    last_block = False

    def __getattr__(self, name):
        return getattr(FUNCTIONAL, name)

    def avg_pool2d(self, x, kernel_size, stride, padding):
        if self.last_block:
            return FUNCTIONAL.max_pool2d(x, kernel_size, stride, padding)
        return FUNCTIONAL.avg_pool2d(x, kernel_size, stride, padding, count_include_pad=False)


def network(classes, seed):
    """Random weights; the norms' statistics are those of random images, so that values keep their size."""
    torch.manual_seed(seed)
    net = inception.inception_v3(weights=None, num_classes=classes, aux_logits=classes == 1000, init_weights=True)
    for name, parameter in net.named_parameters():
        if ".bn." in name:
            torch.nn.init.uniform_(parameter, *((0.8, 1.2) if name.endswith("weight") else (-0.2, 0.2)))
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    net.train()
    with torch.no_grad():
        net(torch.rand(4, 3, 299, 299) * 2 - 1)
    return net.eval()


def half_pixel(images):
    x = images.double() / 255
    return FUNCTIONAL.interpolate(x, size=(299, 299), mode="bilinear", align_corners=False) * 2 - 1


def tensorflow_1(images):
    x = images.double()
    for axis in (2, 3):
        size = x.shape[axis]
        at = torch.arange(299, dtype=torch.float64) * size / 299
        low = at.floor().long()
        high = (low + 1).clamp(max=size - 1)
        fraction = (at - low).reshape([-1 if i == axis else 1 for i in range(4)])
        x = x.index_select(axis, low) * (1 - fraction) + x.index_select(axis, high) * fraction
    return (x - 128) / 128


def outputs(net, x, fid):
    pooling = FidPooling()
    hook = net.Mixed_7c.register_forward_pre_hook(lambda *_: setattr(pooling, "last_block", True))
    features = []
    keep = net.avgpool.register_forward_hook(lambda _, __, out: features.append(out.flatten(1)))
    inception.F = pooling if fid else FUNCTIONAL
    net.transform_input = False
    with torch.no_grad():
        logits = net(x)
    inception.F = FUNCTIONAL
    hook.remove(), keep.remove()
    if fid:
        logits = logits - net.fc.bias
    return features[0].float().contiguous(), logits.float().contiguous()


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    images = torch.randint(0, 256, (3, 3, 24, 33), dtype=torch.uint8)
    # One of soft colours, as noise alone is all alike from afar.
    soft = FUNCTIONAL.interpolate(torch.rand(1, 3, 3, 4) * 255, size=(24, 33), mode="bicubic")
    images[1] = soft[0].clamp(0, 255).to(torch.uint8)
    tensors = {"images": images}
    for name, classes in (("fid", 1008), ("torchvision", 1000)):
        net = network(classes, seed=classes)
        save_file(net.state_dict(), folder / f"{name}.safetensors")
        net.double()
        resizes = {"": half_pixel, "_tf1": tensorflow_1} if name == "fid" else {"": half_pixel}
        for suffix, resize in resizes.items():
            features, logits = outputs(net, resize(images), name == "fid")
            tensors[f"{name}{suffix}.features"], tensors[f"{name}{suffix}.logits"] = features, logits
    save_file(tensors, folder / "cases.safetensors")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(pathlib.Path(sys.argv[1]))
