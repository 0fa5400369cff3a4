"""Writes the pickled batches that the tests of ImageNet-32 read: `imagenet_batches.py FOLDER`. Needs NumPy.

Two images of 2 × 2 pixels, value i of image n being 20·n + i, with labels 1 and 1000, in every pickle protocol that
is read. The mean is there as in the published batches, and is not read.
"""

import pathlib
import pickle
import sys

import numpy as np

folder = pathlib.Path(sys.argv[1])
data = np.array([[20 * n + i for i in range(12)] for n in range(2)], dtype=np.uint8)
batch = {"data": data, "labels": [1, 1000], "mean": data.mean(axis=0)}
for protocol in range(2, 6):
    (folder / f"batch_protocol_{protocol}.pickle").write_bytes(pickle.dumps(batch, protocol))
