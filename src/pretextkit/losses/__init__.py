"""Losses, as pure functions."""
