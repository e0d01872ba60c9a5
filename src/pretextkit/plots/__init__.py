"""Figures, drawn with matplotlib (extra ``plot``)."""
