"""Reports: one HTML file with what was run, tables and figures, that opens without a network.

A map of the files beside this one::

    _write     the public call
    _sections  a result to the sections of a page
    _origin    what was run, the title, and how to repeat it
    _values    settings and scores as text
    _pictures  figures of images: worst errors, neighbors, embedding, anomalies
    _folders   results that training and comparisons left in a folder
    _page      sections to HTML
"""

from pretextkit.report._write import write

__all__ = ["write"]
