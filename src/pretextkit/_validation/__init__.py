"""Checks of arguments; each raises a PretextkitError."""
