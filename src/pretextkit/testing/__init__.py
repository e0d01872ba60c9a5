"""Conformance kit: small named checks of the contract, for plug-ins and built-in classes.

``check_pretext_task``, ``check_backbone`` and ``check_head`` run all checks on the objects of a factory and report all
failures together; ``parametrize_checks`` turns each check into a pytest test.
"""

from pretextkit.testing._backbone import backbone_checks, check_backbone
from pretextkit.testing._head import check_head, head_checks
from pretextkit.testing._runner import Check, ConformanceError, parametrize_checks, run_checks
from pretextkit.testing._task import check_pretext_task, pretext_task_checks
from pretextkit.testing._toys import TinyBackbone, TinyTokenBackbone, noise_images, toy_images

__all__ = [
    "Check",
    "ConformanceError",
    "TinyBackbone",
    "TinyTokenBackbone",
    "backbone_checks",
    "check_backbone",
    "check_head",
    "check_pretext_task",
    "head_checks",
    "noise_images",
    "parametrize_checks",
    "pretext_task_checks",
    "run_checks",
    "toy_images",
]
