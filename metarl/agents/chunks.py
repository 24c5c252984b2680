"""A few tasks at a time, where the samples of all would not fit the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from metarl.agents.batch import Batch
from metarl.networks.mlp import MlpPolicy

CACHE_BYTES = 6 << 20
"""Size of one layer's activations that is worked on at a time. Larger ones leave the processor's
cache, and an elementwise pass then costs as much as the matrix product before it."""


def chunks(batches: Sequence[Batch], policy: MlpPolicy) -> Iterator[slice]:
    """Neighbouring tasks of batches [K, ...] that are worked on together; all of them on a GPU."""
    num_tasks, samples = batches[0].obs.shape[0], max(x.obs.shape[1] for x in batches)
    row_bytes = samples * max(policy.sizes) * batches[0].obs.element_size()
    size = max(1, round(CACHE_BYTES / row_bytes))
    if batches[0].obs.device.type != "cpu":
        size = num_tasks
    for start in range(0, num_tasks, size):
        yield slice(start, min(start + size, num_tasks))
