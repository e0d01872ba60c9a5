"""Batched views: pure functions, one parameter draw per image."""
