"""Zip files of tensors: looked at before anything in them is read."""

from __future__ import annotations

import zipfile
from pathlib import Path

from untrigger.errors import UserError


def stored_members(path: Path, archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """What the zip at `path` holds; UserError when it is compressed, or larger inside than outside."""
    members = archive.infolist()
    if archive.comment or any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise UserError(
            f"{path} is compressed, as torch.save never does and a zip bomb is: save it anew with torch.save"
        )
    declared, held = sum(member.file_size for member in members), path.stat().st_size
    if declared > held:
        raise UserError(f"{path} declares {declared:,} bytes and has {held:,}, as a zip bomb does: save it anew")
    return members
