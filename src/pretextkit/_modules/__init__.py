"""Modules that users pass: what is inside a wrapper, where its weights are, and what is refused."""

from pretextkit._modules._refusals import (
    check_model,
    explain_complex_weights,
    network_name,
    not_built,
    refuse_meta,
    refuse_task,
    refuse_traced_training,
)
from pretextkit._modules._weights import (
    as_input,
    module_device,
    module_dtype,
    modules_behind,
)
from pretextkit._modules._wrappers import (
    copied,
    eager_execution,
    is_parallel_wrapper,
    is_scripted,
    unwrap,
)

__all__ = [
    "as_input",
    "check_model",
    "copied",
    "eager_execution",
    "explain_complex_weights",
    "is_parallel_wrapper",
    "is_scripted",
    "module_device",
    "module_dtype",
    "modules_behind",
    "network_name",
    "not_built",
    "refuse_meta",
    "refuse_task",
    "refuse_traced_training",
    "unwrap",
]
