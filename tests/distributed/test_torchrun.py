"""Restart by torchrun: after one process is killed, all resume from the last checkpoint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.helpers import TORCH

from . import restarted

pytestmark = pytest.mark.xdist_group("serial")


@pytest.mark.skipif(TORCH < (2, 6), reason="a second attempt may wait for the first: pytorch/pytorch#135712")
def test_torchrun_restarts_a_killed_run_exactly(tmp_path: Path) -> None:
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    # Otherwise the processes of the second attempt may look for those of the first.
    environment = {**os.environ, "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1", "OMP_NUM_THREADS": "1"}
    for name, launcher in (("two", torchrun), ("one", [])):
        (tmp_path / name).mkdir()
        command = [sys.executable, *launcher, restarted.__file__, str(tmp_path / name)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False, env=environment)
        assert ended.returncode == 0, ended.stderr
    two, one = (torch.load(tmp_path / name / "ended.pt", weights_only=True) for name in ("two", "one"))
    assert restarted.FATAL - 1 <= two["resumed_at"] < restarted.STEPS  # not from the start
    assert one["resumed_at"] == 0
    for name, value in one["weights"].items():
        torch.testing.assert_close(two["weights"][name], value, rtol=0, atol=1e-6, msg=name)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_example_on_all_gpus_matches_one_process(tmp_path: Path) -> None:
    example = str(Path(__file__).parents[2] / "examples" / "distributed_pretrain.py")
    gpus = torch.cuda.device_count()
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(gpus)]
    reports = []
    for name, launcher in (("nccl", torchrun), ("alone", [])):
        arguments = ["--epochs", "2", "--images", "1024", "--out", str(tmp_path / name)]
        command = [sys.executable, *launcher, example, *arguments]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
        assert ended.returncode == 0, ended.stderr
        reports.append(json.loads((tmp_path / name / "distributed.json").read_text("utf-8")))
    together, alone = reports
    assert together["processes"] == gpus
    assert together["device"].startswith("cuda")
    assert together["knn"] == pytest.approx(alone["knn"], abs=0.1)
