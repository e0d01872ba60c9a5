"""Solvers of the linear probe."""
