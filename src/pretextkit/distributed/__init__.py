"""Processes that train together under torch.distributed."""

from pretextkit.distributed._gather import Rank, all_reduce_mean, collective_scope, current_rank, gather_rows

__all__ = ["Rank", "all_reduce_mean", "collective_scope", "current_rank", "gather_rows"]
