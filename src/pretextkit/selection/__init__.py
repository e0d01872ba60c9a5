"""Choose the images to label first."""

from pretextkit.selection._files import select_files
from pretextkit.selection._methods import Choice, SelectionMethod
from pretextkit.selection._probcover import ProbCover
from pretextkit.selection._select import select_to_label
from pretextkit.selection._selection import Selection
from pretextkit.selection._typiclust import TypiClust

__all__ = [
    "Choice",
    "ProbCover",
    "Selection",
    "SelectionMethod",
    "TypiClust",
    "select_files",
    "select_to_label",
]
