"""Figures of views, features, accuracies, training and anomalies, drawn with matplotlib (extra ``plot``).

Each function takes plain data and returns a ``matplotlib.figure.Figure``. Nothing is shown and pyplot is not used, so
that they work without a screen: save a figure with ``figure.savefig("views.png")``, or let a notebook display it.
"""

from pretextkit.plots.anomalies import reconstruction_panel, score_histogram
from pretextkit.plots.comparison import comparison
from pretextkit.plots.confusion_matrix import confusion_matrix
from pretextkit.plots.embedding import embedding
from pretextkit.plots.hole_and_fill import hole_and_fill
from pretextkit.plots.jigsaw_tiles import jigsaw_tiles
from pretextkit.plots.label_efficiency import label_efficiency
from pretextkit.plots.nearest_neighbors import nearest_neighbors
from pretextkit.plots.patch_layout import patch_layout
from pretextkit.plots.segmentation import segmentation
from pretextkit.plots.training_curves import training_curves
from pretextkit.plots.views import views

__all__ = [
    "comparison",
    "confusion_matrix",
    "embedding",
    "hole_and_fill",
    "jigsaw_tiles",
    "label_efficiency",
    "nearest_neighbors",
    "patch_layout",
    "reconstruction_panel",
    "score_histogram",
    "segmentation",
    "training_curves",
    "views",
]
