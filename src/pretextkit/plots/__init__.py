"""Figures of views, accuracies, training and anomalies, drawn with matplotlib (extra ``plot``).

Each function takes plain data and returns a ``matplotlib.figure.Figure``. Nothing is shown and pyplot is not used, so
that they work without a screen: save a figure with ``figure.savefig("views.png")``, or let a notebook display it.
"""

from pretextkit.plots.anomalies import reconstruction_panel, score_histogram
from pretextkit.plots.comparison import comparison
from pretextkit.plots.label_efficiency import label_efficiency
from pretextkit.plots.segmentation import segmentation
from pretextkit.plots.training_curves import training_curves
from pretextkit.plots.views import views

__all__ = [
    "comparison",
    "label_efficiency",
    "reconstruction_panel",
    "score_histogram",
    "segmentation",
    "training_curves",
    "views",
]
