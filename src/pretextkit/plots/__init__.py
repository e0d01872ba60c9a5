"""Plots of views, features, accuracies, training and anomalies, drawn with matplotlib (extra ``plot``).

Each function takes plain data and returns a ``matplotlib.figure.Figure``. Plots do not use pyplot and work without a
screen: save a figure with ``figure.savefig("views.png")``, or display it in a notebook.
"""

from pretextkit.plots._anomalies import reconstruction_panel, score_histogram
from pretextkit.plots._comparison import comparison
from pretextkit.plots._confusion_matrix import confusion_matrix
from pretextkit.plots._embedding import embedding
from pretextkit.plots._inpainting import inpainting
from pretextkit.plots._jigsaw_tiles import jigsaw_tiles
from pretextkit.plots._label_efficiency import label_efficiency
from pretextkit.plots._nearest_neighbors import nearest_neighbors
from pretextkit.plots._patch_layout import patch_layout
from pretextkit.plots._segmentation import segmentation
from pretextkit.plots._selection import selection
from pretextkit.plots._training_curves import training_curves
from pretextkit.plots._views import views

__all__ = [
    "comparison",
    "confusion_matrix",
    "embedding",
    "inpainting",
    "jigsaw_tiles",
    "label_efficiency",
    "nearest_neighbors",
    "patch_layout",
    "reconstruction_panel",
    "score_histogram",
    "segmentation",
    "selection",
    "training_curves",
    "views",
]
