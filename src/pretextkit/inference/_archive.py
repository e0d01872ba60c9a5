"""One file of tensors and a JSON header, as an archive of torch or of safetensors; reading runs no code."""

from __future__ import annotations

import hashlib
import json
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pretextkit._atomic import atomic_write
from pretextkit.errors import CheckpointError, OptionError, PretextkitError, reason

__all__ = ["COPY", "FORMAT", "parse_header", "read_archive", "write_archive"]

FORMAT = 1
"""Number of the format; a file of a higher number is refused."""

KEY, CHECKSUM = "pretextkit", "checksum"
OTHERS = {".onnx", ".pt2", ".h5", ".npz", ".npy", ".json", ".csv", ".pkl"}
"""Suffixes of other formats."""

COPY = "Restore it from a copy."
"""Advice for a damaged file."""


def write_archive(path: Path, tensors: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Write tensors, made contiguous, and a header of plain data to one file; the suffix chooses the format.

    Raises:
        OptionError: The path is a folder, or its suffix is that of another format.
        PretextkitError: The suffix is ``.safetensors``, and safetensors is not installed.

    Example:
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     write_archive(Path(folder, "one.pt"), {"weight": torch.ones(2)}, {"kind": "backbone"})
        ...     read_archive(Path(folder, "one.pt"))[1]["kind"]
        'backbone'
    """
    if path.is_dir():
        raise OptionError(
            "a file to write", got=f"the folder {str(path)!r}", fix=f"For example {str(path / 'saved.pt')!r}."
        )
    if path.suffix.lower() in OTHERS:
        fix = "Give it the suffix .pt or .safetensors; the page on export shows ONNX."
        raise OptionError("the path of a file of torch or safetensors", got=repr(str(path)), fix=fix)
    text = json.dumps({"format": FORMAT, **header})
    own = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}  # no shared memory
    marks = {KEY: text, CHECKSUM: _checksum(text, own)}
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        content = _safetensors("torch").save(own, marks)
        with atomic_write(path) as file:
            file.write(content)
        return
    with atomic_write(path) as file:
        torch.save({**marks, "tensors": own}, file)


def read_archive(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read and verify the tensors and the header of a file.

    Raises:
        CheckpointError: There is no such file, or it is damaged, of another origin, or of a later format.
        PretextkitError: It is a safetensors file, and safetensors is not installed.
    """
    if not path.is_file():
        is_run = any((path / name).is_file() for name in ("backbone.pt", "checkpoint.pt"))
        fix = f"Its backbone is load_backbone({str(path)!r})." if is_run else "Pass a file that save wrote."
        fix = fix if path.is_dir() else "Check the path."
        raise CheckpointError(f"a saved file at {path}", got="a folder" if path.is_dir() else "no file", fix=fix)
    with path.open("rb") as file:
        start = file.read(9)
    is_safetensors = path.suffix == ".safetensors" or start[8:] == b"{"
    if not is_safetensors and not start.startswith((b"PK", b"\x80")):  # an archive of torch, or an old pickle
        raise _foreign(path, start)
    tensors, marks = _read_safetensors(path) if is_safetensors else _read_torch(path)
    header = parse_header(path, marks[KEY])
    if marks.get(CHECKSUM) != _checksum(marks[KEY], tensors):
        raise CheckpointError(f"an intact file at {path}", got="content that does not match its checksum", fix=COPY)
    return tensors, header


def parse_header(path: Path, text: str) -> dict[str, Any]:
    """Parse the header of a file.

    Raises:
        CheckpointError: It is no JSON, or of a later format.

    Example:
        >>> parse_header(Path("a.pt"), '{"format": 1}')
        {'format': 1}
    """
    try:
        header: dict[str, Any] = json.loads(text)
        found, writer = int(header["format"]), dict(header.get("versions", {})).get("pretextkit", "a later version")
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"an intact header in {path}", got=reason(error), fix=COPY) from error
    if found > FORMAT:
        raise CheckpointError(
            f"a file of format {FORMAT} or older at {path}",
            got=f"format {found}, written by pretextkit {writer}",
            fix="Update pretextkit.",
        )
    return header


def _read_torch(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with warnings.catch_warnings():  # torch warns about some foreign files, which are refused anyway
            warnings.simplefilter("ignore")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        got = "a file that cannot be read without running code from it, or a damaged one"
        raise CheckpointError(f"a file that pretextkit saved at {path}", got=got, fix=COPY) from error
    except Exception as error:  # a damaged file can raise any error
        raise CheckpointError(f"an intact file at {path}", got=reason(error), fix=COPY) from error
    if not isinstance(content, dict) or not isinstance(content.get(KEY), str):
        raise _foreign(path, content)
    tensors = content.get("tensors")
    if not isinstance(tensors, dict) or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise _foreign(path, content)
    return tensors, content


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    package = _safetensors()
    try:
        with package.safe_open(path, "pt") as file:
            marks = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - it is no mapping
    except Exception as error:  # a damaged file can raise any error
        raise CheckpointError(f"an intact file at {path}", got=reason(error), fix=COPY) from error
    if KEY not in marks:
        raise _foreign(path, tensors)
    return tensors, marks


def _foreign(path: Path, content: Any) -> CheckpointError:
    """Build the error for a file that something else wrote."""
    got = "a file from elsewhere" if isinstance(content, bytes) else f"a {type(content).__name__} from elsewhere"
    fix = "Pass a file that save wrote."
    if isinstance(content, dict) and {"identity", "state"} <= set(content):
        got, fix = "a checkpoint of a run", f"Pass its folder: load_backbone({str(path.parent)!r})."
    elif isinstance(content, dict) and content and all(isinstance(value, Tensor) for value in content.values()):
        got = "a state dict from elsewhere"
        fix = "Build the module, and call its load_state_dict with this dict."
    return CheckpointError(f"a file that pretextkit saved at {path}", got=got, fix=fix)


def _checksum(text: str, tensors: Mapping[str, Tensor]) -> str:
    content = hashlib.sha256(text.encode())
    for name in sorted(tensors):
        value = tensors[name].contiguous()
        content.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        content.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return content.hexdigest()


def _safetensors(module: str = "") -> Any:
    try:
        import safetensors
        import safetensors.torch
    except ImportError as error:
        raise PretextkitError(
            "Files with the suffix .safetensors need safetensors, which is not installed.",
            fix='Run: pip install "pretextkit[safetensors]"',
        ) from error
    return safetensors.torch if module else safetensors
