"""
Accuracy by number of labels
============================

What a pretext task adds shows where labels are few. Black dotted lines are baselines; of many lines, the three that end
highest have colors. For a comparison of your own, ``compare(...).label_efficiency()`` is the mapping to draw.
"""

from pretextkit import plots

# Percent with 80, 800 and 8,000 labels, for three seeds on CIFAR-10:
# docs/figures/cifar10-comparison.json of the repository
finetuned = {
    "random init": [[25.6, 28.1, 26.6], [48.1, 46.1, 48.6], [53.6, 52.1, 54.1]],
    "supervised": [[40.3, 42.6, 43.5], [60.6, 57.1, 60.3], [67.0, 65.8, 67.0]],
    "autoencoder": [[25.6, 28.5, 26.7], [48.0, 45.5, 47.8], [52.2, 52.6, 53.0]],
    "colorization": [[27.7, 28.5, 25.8], [49.8, 47.1, 49.4], [54.9, 54.2, 54.0]],
    "context-encoder": [[27.9, 31.0, 28.1], [49.7, 47.4, 51.7], [56.1, 55.2, 56.7]],
    "denoising": [[28.1, 31.0, 27.6], [49.8, 47.7, 51.2], [55.8, 54.7, 55.0]],
    "jigsaw": [[28.4, 30.7, 29.0], [50.7, 47.5, 51.0], [56.8, 57.4, 56.2]],
    "jigsaw-context": [[28.5, 29.3, 28.5], [50.5, 47.8, 51.0], [56.1, 55.7, 56.2]],
    "rotation": [[27.3, 30.1, 28.5], [49.5, 47.7, 50.8], [56.8, 54.8, 56.0]],
    "simclr": [[26.8, 30.7, 28.7], [49.9, 47.2, 50.8], [55.6, 55.0, 55.7]],
}
lines = {}
for name, row in finetuned.items():
    fractions = [[percent / 100 for percent in seeds] for seeds in row]
    lines[name] = dict(zip((80, 800, 8000), fractions, strict=True))
plots.label_efficiency(lines, chance=1 / 10, title="CIFAR-10, fine-tuned")
