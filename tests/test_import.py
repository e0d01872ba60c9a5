"""``import pretextkit`` imports only torch and einops and changes no global state."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

# Runs in a fresh interpreter. The audit hook comes after torch, because the import of torch is not under test.
PROBE = """
    import json, locale, logging, os, random, signal, sys, threading, warnings
    import torch

    def state():
        import numpy
        return {
            "torch generator": torch.random.get_rng_state().tolist(),
            "random": repr(random.getstate()),
            "numpy generator": repr(numpy.random.get_state()),
            "threads": [torch.get_num_threads(), torch.get_num_interop_threads(), threading.active_count()],
            "dtype": str(torch.get_default_dtype()),
            "grad": torch.is_grad_enabled(),
            "deterministic": torch.are_deterministic_algorithms_enabled(),
            "matmul": torch.get_float32_matmul_precision(),
            "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
            "sharing": torch.multiprocessing.get_sharing_strategy(),
            "CUDA": torch.cuda.is_initialized(),
            "warnings": repr(warnings.filters),
            "logging": [logging.root.level, len(logging.root.handlers)],
            "environment": sorted(os.environ.items()),
            "folder": os.getcwd(),
            "locale": locale.setlocale(locale.LC_ALL),
            "signals": [str(signal.getsignal(number)) for number in signal.valid_signals()],
            "excepthook": sys.excepthook is sys.__excepthook__,
        }

    warnings.simplefilter("error")
    before, known, events = state(), set(sys.modules), []

    def audit(event, args):
        network = event.startswith(("socket.", "urllib.", "http."))
        process = event.startswith(("subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn"))
        writes = event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+")
        if (network or process or writes) and "__pycache__" not in str(args):
            events.append(f"{event} {args}")

    sys.addaudithook(audit)
    import pretextkit
    added, after, seen = set(sys.modules) - known, state(), list(events)

    packages = {name.partition(".")[0] for name in added} - sys.stdlib_module_names
    changed = [key for key in before if before[key] != after[key]]
    print(json.dumps({"packages": sorted(packages), "modules": sorted(added), "changed": changed, "events": seen}))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    command = [sys.executable, "-c", dedent(PROBE)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    result: dict[str, Any] = json.loads(answer.stdout)
    return result


def test_import_loads_only_torch_and_einops(found: dict[str, Any]) -> None:
    # torchvision, torchmetrics, matplotlib and tqdm take seconds: functions import them on first use.
    assert found["packages"] == ["einops", "pretextkit"]


def test_import_changes_no_global_state(found: dict[str, Any]) -> None:
    assert found["changed"] == []


def test_import_opens_no_connection_process_or_file(found: dict[str, Any]) -> None:
    assert found["events"] == []


def test_import_does_not_load_plots_and_testing(found: dict[str, Any]) -> None:
    assert "pretextkit.tasks._rotation" in found["modules"]
    assert not {"pretextkit.plots", "pretextkit.testing"} & set(found["modules"])


def test_plots_and_testing_are_attributes_without_import() -> None:
    code = """
        import sys
        import pretextkit as pk
        assert {"plots", "testing"} <= set(dir(pk)) & set(pk.__all__)
        assert pk.plots.views.__module__.startswith("pretextkit.plots")
        assert pk.testing.check_pretext_task.__module__.startswith("pretextkit.testing")
        assert "matplotlib" not in sys.modules
        assert not hasattr(pk, "plot")
    """
    answer = subprocess.run([sys.executable, "-c", dedent(code)], capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def test_package_has_a_py_typed_marker() -> None:
    import pretextkit

    assert (Path(pretextkit.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(("name", "place"), [("pretrain", "functional"), ("FolderImages", "data")])
def test_name_of_a_module_is_said_to_be_there(name: str, place: str) -> None:
    import pretextkit

    with pytest.raises(AttributeError, match=rf"has no attribute '{name}'; it is in pretextkit\.{place}$"):
        getattr(pretextkit, name)
    with pytest.raises(AttributeError, match=r"has no attribute 'nothing'$"):
        getattr(pretextkit, "nothing")  # noqa: B009, for mypy
