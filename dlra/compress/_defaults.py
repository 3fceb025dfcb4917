"""Defaults of :func:`dlra.compress.compare` and ``dlra compare``; nothing is imported here, which help texts need."""

from __future__ import annotations

METHODS = ("dlrt", "lorita2", "lorita3", "svd", "nuclear", "effective-rank")
EPOCHS, FINE_TUNE, BATCH_SIZE = 10, 1, 256
OPTIMIZER, LR, WEIGHT_DECAY = "adam", 2e-3, 1e-4
RULE = "gsvt"
TARGETS = (0.05, 0.1, 0.15, 0.2, 0.3, 0.5)
TAUS = (0.05, 0.1, 0.2, 0.3)

STRENGTHS = {
    "nuclear": 1e-3,
    "schatten": 1e-4,
    "effective-rank": 1e-4,
    "hoyer": 1e-2,
    "gini": 1e-2,
    "svd-training": 1e-1,
}
