from __future__ import annotations

import pytest
import torch

from pretextkit.errors import OptionError, UnknownNameError
from pretextkit.training import _hardware as hardware
from pretextkit.training import resolve_device, resolve_precision

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def machine(monkeypatch: pytest.MonkeyPatch, *, cuda: bool = False, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 3)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "device"), [(True, True, "cuda:3"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto_device_is_the_fastest_available(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, device: str
) -> None:
    machine(monkeypatch, cuda=cuda, mps=mps)
    assert resolve_device() == torch.device(device)


@pytest.mark.parametrize("device", ["cpu", CPU])
def test_named_device_is_used(monkeypatch: pytest.MonkeyPatch, device: str | torch.device) -> None:
    machine(monkeypatch, cuda=True)
    assert resolve_device(device) == CPU


@pytest.mark.parametrize("name", ["gpu", "cpu:x", "cuda:99", ""])
def test_unknown_device_error_lists_choices(name: str) -> None:
    with pytest.raises(OptionError) as caught:
        resolve_device(name)
    expected = f"Expected a device of this machine, but got {name!r}. Use 'auto' or 'cpu'. PyTorch says: "
    assert str(caught.value).startswith(expected)
    assert "\n" not in str(caught.value)


def test_unknown_precision_error_suggests_a_name() -> None:
    with pytest.raises(UnknownNameError) as caught:
        resolve_precision("FP-16", CPU)  # type: ignore[arg-type]
    assert caught.value.text == (
        "Expected the name of a precision, but got 'FP-16'. Did you mean 'fp16'? Known: auto, fp32, bf16, fp16."
    )


def test_fp16_is_refused_on_the_cpu() -> None:
    with pytest.raises(OptionError) as caught:
        resolve_precision("fp16", CPU)
    assert caught.value.text == "Expected fp16 on a CUDA device, but got device cpu. Use 'bf16', 'fp32' or 'auto'."
    assert resolve_precision("fp16", CUDA) == "fp16"


@pytest.mark.parametrize("bf16", [True, False])
def test_auto_precision_on_cpu_depends_on_the_processor(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    monkeypatch.setattr(hardware, "_cpu_has_bf16", lambda: bf16)
    assert resolve_precision("auto", CPU) == ("bf16" if bf16 else "fp32")


@pytest.mark.parametrize("check", ["_is_avx512_bf16_supported", "_is_amx_tile_supported"])
def test_auto_precision_accepts_avx512_or_amx(monkeypatch: pytest.MonkeyPatch, check: str) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    assert resolve_precision("auto", CPU) == "fp32"
    monkeypatch.setattr(torch.cpu, check, lambda: True)
    assert resolve_precision("auto", CPU) == "bf16"


def test_auto_precision_is_fp32_if_torch_cannot_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert resolve_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize("bf16", [True, False])
def test_auto_precision_on_cuda_avoids_emulated_bf16(monkeypatch: pytest.MonkeyPatch, bf16: bool) -> None:
    def supported(including_emulation: bool = True) -> bool:
        return including_emulation or bf16

    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    assert resolve_precision("auto", CUDA) == ("bf16" if bf16 else "fp16")


def test_auto_precision_on_other_devices_is_fp32() -> None:
    assert resolve_precision("auto", torch.device("mps")) == "fp32"


@pytest.mark.parametrize(
    ("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16), ("fp16", torch.float16)]
)
def test_autocast_for_sets_the_dtype_of_matrix_products(precision: str, dtype: torch.dtype) -> None:
    with hardware.autocast_for(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype
