# SPDX-License-Identifier: MIT
"""Array work; results are rounded before they are hashed, as threads may add in another order."""

import hashlib
import sys

import numpy as np

N, M = int(sys.argv[1]), int(sys.argv[2])


def show(name, array):
    print(name, hashlib.sha256(np.ascontiguousarray(np.round(array, 3)) + 0.0).hexdigest()[:16])


rng = np.random.default_rng(7)
a = rng.random(N)
show('sort', np.sort(a))
show('argsort', a[np.argsort(a, kind='stable')])
show('cumsum', np.cumsum(a)[::1000])
show('fft', np.fft.irfft(np.fft.rfft(a), N))
show('unique', np.unique(rng.integers(0, N, N)))
m = rng.random((M, M)) + np.eye(M) * M
show('product', m @ m.T)
show('solve', np.linalg.solve(m, m.sum(axis=1)))
show('inverse', np.linalg.inv(m) @ m)
show('table', np.bincount(rng.integers(0, 5000, N), weights=a, minlength=5000))
