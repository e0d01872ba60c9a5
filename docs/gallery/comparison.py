"""
Methods side by side
====================

Bars are sorted. Hatched ones are baselines: an untrained network, and one trained with all labels. Read a difference
against the error bars, which are the standard deviation over seeds. For a comparison of your own,
``compare(...).accuracies("linear")`` is the mapping to draw.
"""

from pretextkit import plots

# Three seeds on CIFAR-10: docs/figures/cifar10-comparison.json of the repository
accuracies = {
    "random init": [0.520, 0.504, 0.506],
    "supervised": [0.679, 0.669, 0.677],
    "autoencoder": [0.516, 0.512, 0.507],
    "colorization": [0.525, 0.519, 0.536],
    "context-encoder": [0.546, 0.554, 0.555],
    "denoising": [0.546, 0.552, 0.551],
    "jigsaw": [0.563, 0.551, 0.560],
    "jigsaw-context": [0.546, 0.547, 0.544],
    "rotation": [0.543, 0.532, 0.542],
    "simclr": [0.532, 0.544, 0.548],
}
plots.comparison(accuracies, chance=1 / 10, title="CIFAR-10, best stage")
