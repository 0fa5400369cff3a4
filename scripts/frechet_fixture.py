#!/usr/bin/env python3
"""Prints the numbers that the tests of `metrics::frechet` compare with. Needs numpy and scipy.

The features are made by the same linear congruential generator as in the tests, so only results are kept there.
"""

import numpy
import scipy.linalg

CASES = [(4, 50, 60), (16, 200, 100), (48, 300, 400), (24, 12, 15)]


def features(n, d, seed, scale):
    state, rows = seed, []
    for _ in range(n):
        row, last = [], 0.0
        for j in range(d):
            state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
            u = (state >> 33) / 2**31 - 0.5
            row.append(scale * (u + last / 2) + j / 4)
            last = u
        rows.append(row)
    return numpy.array(rows).astype(numpy.float32).astype(numpy.float64)


def distance(a, b):
    (mean_a, cov_a), (mean_b, cov_b) = [(x.mean(axis=0), numpy.cov(x, rowvar=False)) for x in (a, b)]
    rank = min(len(a), len(b)) - 1
    if rank >= len(mean_a):
        root = numpy.trace(scipy.linalg.sqrtm(cov_a @ cov_b)).real
    else:
        # Of singular matrices the square root is found badly; the eigenvalues that are not zero are enough.
        eigenvalues = numpy.sort(scipy.linalg.eigvals(cov_a @ cov_b).real)[::-1]
        root = numpy.sqrt(eigenvalues[:rank]).sum()
    return ((mean_a - mean_b) ** 2).sum() + numpy.trace(cov_a) + numpy.trace(cov_b) - 2 * root


small = features(7, 3, 1, 2.0)
print("MEAN", [float(x) for x in small.mean(axis=0)])
print("COVARIANCE", [float(x) for x in numpy.cov(small, rowvar=False).ravel()])
for d, n1, n2 in CASES:
    print((d, n1, n2, float(distance(features(n1, d, 1, 1.0), features(n2, d, 2, 1.5)))))
