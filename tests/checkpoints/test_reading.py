"""Nothing in a hostile file runs, and each is refused in one sentence."""

from __future__ import annotations

import functools
import importlib
import operator
import os
import pickle
import struct
import subprocess
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from untrigger.checkpoints.foreign import read_state
from untrigger.checkpoints.reading import read_checkpoint
from untrigger.errors import UserError

CANARY = "canary"
"""The file that a hostile one creates, if anything in it runs."""


class Reduced:
    """Pickles as what it is told: a callable, its arguments, and perhaps a state."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> Any:
        return self.parts


def calls(path: str) -> Any:
    return Reduced(os.system, (f"touch {path}",))


def evaluates(path: str) -> Any:
    return Reduced(eval, (f"open({path!r}, 'w')",))


def executes(path: str) -> Any:
    return Reduced(exec, (f"open({path!r}, 'w')",))


def starts(path: str) -> Any:
    return Reduced(subprocess.Popen, (["touch", path],))


def opens(path: str) -> Any:
    return Reduced(open, (path, "w"))


def imports(path: str) -> Any:
    return Reduced(importlib.import_module, ("antigravity",))


def chains(path: str) -> Any:
    return Reduced(operator.call, (Reduced(functools.partial, (open, path)), "w"))


def reaches_through_attributes(path: str) -> Any:
    return Reduced(operator.methodcaller("touch"), (Path(path),))


def loads_again(path: str) -> Any:
    return Reduced(pickle.loads, (pickle.dumps(Reduced(open, (path, "w"))),))


def loads_again_with_torch(path: str) -> Any:
    return Reduced(torch.load, (path, None, None))


def hides_in_an_array(path: str) -> Any:
    array = np.empty(1, dtype=object)
    array[0] = calls(path)
    return array


def hides_in_a_dtype(path: str) -> Any:
    return Reduced(np.dtype, (calls(path), False, True))


def hides_in_an_array_type(path: str) -> Any:
    return Reduced(np._core.multiarray._reconstruct, (calls(path), (0,), b"b"))  # type: ignore[attr-defined]


def hides_in_a_state(path: str) -> Any:
    return Reduced(OrderedDict, (), {"hidden": calls(path)})


def runs_numpy(path: str) -> Any:
    return Reduced(np.savetxt, (path, [1.0]))


HOSTILE = (
    calls,
    evaluates,
    executes,
    starts,
    opens,
    imports,
    chains,
    reaches_through_attributes,
    loads_again,
    loads_again_with_torch,
    hides_in_an_array,
    hides_in_a_dtype,
    hides_in_an_array_type,
    hides_in_a_state,
    runs_numpy,
)


def write_zip(content: Any, path: Path) -> None:
    torch.save(content, path)


def write_legacy(content: Any, path: Path) -> None:
    torch.save(content, path, _use_new_zipfile_serialization=False)


def writing_pickle(protocol: int) -> Callable[[Any, Path], object]:
    return lambda content, path: path.write_bytes(pickle.dumps(content, protocol))


WRITERS: dict[str, Callable[[Any, Path], object]] = {
    "zip": write_zip,
    "legacy": write_legacy,
    **{f"pickle {protocol}": writing_pickle(protocol) for protocol in (0, 2, 4)},
}


def refused(path: Path) -> str:
    """The one sentence with which a file is refused."""
    with pytest.raises(UserError) as refusal:
        read_checkpoint(path)
    told = str(refusal.value)
    assert "\n" not in told and str(path) in told
    return told


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("hostile", HOSTILE, ids=lambda hostile: hostile.__name__)
def test_what_is_hidden_in_a_pickle_never_runs(
    hostile: Callable[[str], Any], writer: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    content = {"state_dict": {"conv1.weight": torch.zeros(2)}, "extra": hostile(str(tmp_path / CANARY))}
    if writer.startswith("pickle"):
        del content["state_dict"]  # tensors are not written so
    WRITERS[writer](content, tmp_path / "model.pth")
    assert "was not run" in refused(tmp_path / "model.pth")
    assert not (tmp_path / CANARY).exists()
    assert capfd.readouterr() == ("", "")


def test_what_is_refused_is_named(tmp_path: Path) -> None:
    write_zip(calls(str(tmp_path / CANARY)), tmp_path / "model.pt")
    assert "'posix.system'" in refused(tmp_path / "model.pt")
    write_zip(torch.nn.Linear(2, 2), tmp_path / "model.pt")
    assert "'torch.nn.modules.linear.Linear'" in refused(tmp_path / "model.pt")


def test_numpy_arrays_and_numbers_beside_the_weights_are_read_past(tmp_path: Path) -> None:
    content = {
        "model_name": "preactresnet18",
        "num_classes": 10,
        "img_size": (32, 32, 3),
        "model": OrderedDict(weight=torch.arange(3.0)),
        "bd_train": {np.int64(4): np.arange(5), "labels": np.float32(0.5), "names": np.array(["a", "b"])},
    }
    for writer in (write_zip, write_legacy):
        writer(content, tmp_path / "attack_result.pt")
        found = read_checkpoint(tmp_path / "attack_result.pt")
        assert torch.equal(found["model"]["weight"], torch.arange(3.0)) and found["img_size"] == (32, 32, 3)
        assert not any(isinstance(value, np.ndarray) for value in found["bd_train"].values())


def test_arrays_of_older_numpy_are_read_past_too(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write_legacy({"model": {"weight": torch.arange(3.0)}, "x": np.arange(5), "y": {np.int64(4): 1}}, path)
    content = path.read_bytes()
    assert b"numpy._core.multiarray" in content
    path.write_bytes(content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert torch.equal(read_checkpoint(path)["model"]["weight"], torch.arange(3.0))


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    path = tmp_path / "healthy.pt"
    torch.save({"weight": torch.rand(300), "bias": torch.rand(7)}, path)
    return path


def rewritten(healthy: Path, change: Callable[[str, bytes], bytes], **how: Any) -> Path:
    """The same zip with other contents."""
    path = healthy.with_name("rewritten.pt")
    with zipfile.ZipFile(healthy) as source, zipfile.ZipFile(path, "w", **how) as target:
        for member in source.infolist():
            target.writestr(member.filename, change(member.filename, source.read(member)))
    return path


def test_a_compressed_zip_is_refused(healthy: Path) -> None:
    bomb = rewritten(
        healthy,
        lambda name, content: bytes(10**7) if name.endswith("/data/0") else content,
        compression=zipfile.ZIP_DEFLATED,
    )
    assert bomb.stat().st_size < 10**5 and "zip bomb" in refused(bomb)


def test_a_zip_whose_members_share_their_bytes_is_refused(healthy: Path) -> None:
    path = rewritten(healthy, lambda name, content: content)
    with zipfile.ZipFile(path, "a") as archive:
        (large,) = (member for member in archive.infolist() if member.filename.endswith("/data/0"))
        for number in range(20):
            again = zipfile.ZipInfo(f"healthy/data/{number + 10}")
            for name in ("header_offset", "CRC", "compress_size", "file_size"):
                setattr(again, name, getattr(large, name))
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]  # so that the longer list is written
    assert "zip bomb" in refused(path)


def test_storage_of_another_size_than_declared_is_refused(healthy: Path) -> None:
    short = rewritten(healthy, lambda name, content: content[:40] if name.endswith("/data/0") else content)
    refused(short)


def test_a_tensor_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"weight": torch.rand(300)}, path)
    larger = struct.pack("<H", 60_000)
    path = rewritten(
        path, lambda name, content: content.replace(b"M" + struct.pack("<H", 300) + b"\x85", b"M" + larger + b"\x85")
    )
    refused(path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("writer", [write_zip, write_legacy], ids=["zip", "legacy"])
def test_a_file_cut_short_is_refused(writer: Callable[[Any, Path], None], share: float, tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    writer({"weight": torch.rand(300)}, path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(path)


def test_other_zips_and_other_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/code/model.py", "open('canary', 'w')")
    assert "no state dict of torch.save" in refused(path)
    path.write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    assert "Git LFS pointer" in refused(path)
    path.write_text("weights")
    refused(path)
    assert "cannot read" in refused(tmp_path / "missing.pt")


def test_a_damaged_safetensors_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", 2**40) + b"{}")
    assert "not a valid safetensors file" in refused(path)


def zipped(pickled: bytes, path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model/data.pkl", pickled)
        archive.writestr("model/version", "3\n")


def test_a_key_that_would_be_hashed_for_ever_is_refused_at_once(tmp_path: Path) -> None:
    doubled = b"".join(bytes([*b"h", n, *b"h", n, 0x86, *b"q", n + 1]) for n in range(60))
    zipped(b"\x80\x02}q\xff)q\x00" + doubled + b"K\x01s.", tmp_path / "model.pt")
    with pytest.raises(UserError, match="nested so deep that it would never be read"):
        read_checkpoint(tmp_path / "model.pt")


def test_bytes_in_a_slow_codec_are_refused_at_once(tmp_path: Path) -> None:
    text = b"\xc3\xa9" * 100_000
    encoded = b"X" + len(text).to_bytes(4, "little") + text + b"X\x08\x00\x00\x00punycode\x86R"
    zipped(b"\x80\x02c_codecs\nencode\n" + encoded + b".", tmp_path / "model.pt")
    with pytest.raises(UserError, match="written by another codec than latin1"):
        read_checkpoint(tmp_path / "model.pt")


@pytest.mark.parametrize("name", ["module." * 100_000 + "weight", "a\nnothing found", "\x1b[8mhidden"])
def test_names_that_no_network_gives_are_refused_and_not_shown_as_they_are(name: str, tmp_path: Path) -> None:
    torch.save({name: torch.ones(2), f"{name}2": torch.ones(2)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="a name that no network gives") as refused:
        read_state(tmp_path / "model.pt")
    assert str(refused.value).isprintable() and len(str(refused.value)) < 300


def test_a_counter_that_is_larger_than_its_storage_is_refused(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(2), "num_batches_tracked": torch.zeros(1).expand(2**40)}, tmp_path / "model.pt")
    with pytest.raises(UserError, match="does not hold all of num_batches_tracked"):
        read_state(tmp_path / "model.pt")


def test_a_pickle_nested_a_million_deep_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "deep.pt"
    path.write_bytes(b"\x80\x02" + b"]" * 10**6 + b"a" * (10**6 - 1) + b".")
    refused(path)
