"""Training on several processes under ``torch.distributed``.

Losses use the functions exported here. The training loop uses the private modules: ``_group`` (the processes and their
agreement), ``_strategy`` (single, data-parallel or sharded), ``_sharding`` (FSDP state) and ``_batch_slices`` (random
numbers of a slice of a batch).
"""

from pretextkit.distributed._gather import Rank, all_reduce_mean, collective_scope, current_rank, gather_rows

__all__ = ["Rank", "all_reduce_mean", "collective_scope", "current_rank", "gather_rows"]
