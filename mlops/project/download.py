"""Files from the network: mirrors in turn, partial downloads continued, and each file verified by its checksum."""

import shutil
import time
from collections.abc import Sequence
from http.client import HTTPException
from pathlib import Path
from typing import IO
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from mlops.project.errors import UserError, disk_errors
from mlops.project.identity import file_digest, project_root
from mlops.project.progress import progress

_TIMEOUT = 30  # seconds without a byte
_CHUNK = 1 << 18
_PAUSES = (1.0, 3.0)  # seconds before the mirrors are tried again


class _WrongChecksumError(Exception):
    pass


def download(urls: Sequence[str], target: Path, *, sha256: str, remedy: str, partials: Path | None = None) -> None:
    """Put the file whose checksum is `sha256` (hexadecimal, lower case) at `target`, unless it is there.

    The mirrors are tried in turn, and again if one was busy or broke off. What has arrived is kept in `partials`
    (default: `.checkpoints/downloads`, outside the outputs that DVC deletes) under a name made of the target's name and
    the checksum; the next mirror, or the next call, asks only for the rest. `target` appears by a rename, whole. If no
    mirror gives the right bytes, the UserError lists each with its reason and ends with `remedy`; a full disk is one,
    too.
    """
    if _is_file_with(target, sha256):
        return
    part = (partials or project_root() / ".checkpoints" / "downloads") / f"{target.name}.{sha256[:16]}.part"
    with disk_errors(part):
        part.parent.mkdir(parents=True, exist_ok=True)
        if not _is_file_with(part, sha256):
            _try_mirrors(urls, part, sha256, f"{target.name} could not be downloaded:", remedy)
    arriving = target.with_name(f".{target.name}.arriving")
    with disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(part, arriving)  # a copy, if the two are on different file systems
        arriving.replace(target)


def _is_file_with(path: Path, sha256: str) -> bool:
    return path.is_file() and file_digest(path) == sha256


def _try_mirrors(urls: Sequence[str], part: Path, sha256: str, title: str, remedy: str) -> None:
    failures: dict[str, Exception] = {}
    for pause in (0.0, *_PAUSES):
        time.sleep(pause)
        for url in urls:
            try:
                with disk_errors(part):
                    return _fetch(url, part, sha256)
            except (OSError, HTTPException, _WrongChecksumError) as error:
                failures[url] = error
        if not any(map(_may_pass, failures.values())):
            break
    raise UserError("\n".join([title, *(f"  {url}: {_reason(error)}" for url, error in failures.items()), remedy]))


def _may_pass(error: Exception) -> bool:
    """Return whether a server is busy or a transfer broke off, but not if nobody was reached or the file is wrong."""
    if isinstance(error, HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, ConnectionError | TimeoutError | HTTPException)


def _fetch(url: str, part: Path, sha256: str) -> None:
    resumed = _transfer(url, part)
    actual = file_digest(part)
    if actual == sha256:
        return
    part.unlink()
    if not resumed:
        raise _WrongChecksumError(f"wrong checksum, so the file was deleted: expected sha256 {sha256}, got {actual}")
    _fetch(url, part, sha256)  # the beginning may have been bad; without a part this cannot resume again


def _transfer(url: str, part: Path) -> bool:
    """Append to `part` what it lacks, or write it anew if the server cannot continue; return whether it continued."""
    have = part.stat().st_size if part.exists() else 0
    headers = {"User-Agent": "equilibrium", **({"Range": f"bytes={have}-"} if have else {})}
    try:
        response = urlopen(Request(url, headers=headers), timeout=_TIMEOUT)
    except HTTPError as error:
        error.close()
        if error.code != 416 or not have:  # 416: the part is at least as long as the file, and not the file
            raise
        part.unlink()
        return _transfer(url, part)
    with response:
        resumed: bool = response.status == 206
        start = have if resumed else 0
        length = response.headers.get("Content-Length")
        total = None if length is None else start + int(length)
        with part.open("ab" if resumed else "wb") as file:
            _copy(response, file, url.rpartition("/")[2], start, total)
    if total is not None and (size := part.stat().st_size) < total:
        raise ConnectionError(
            f"the connection closed after {size:,} of {total:,} bytes; run again to continue from there"
        )
    return resumed


def _copy(source: IO[bytes], target: IO[bytes], name: str, done: int, total: int | None) -> None:
    with progress(f"download: {name}", total, done, unit="bytes") as line:
        while chunk := source.read(_CHUNK):
            done += target.write(chunk)
            line.update(done)


def _reason(error: Exception) -> str:
    match error:
        case HTTPError():
            return f"HTTP {error.code} {error.reason}"
        case URLError():
            return str(error.reason)
        case _:
            return str(error) or type(error).__name__
