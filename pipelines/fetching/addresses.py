"""A file at an address that fsspec opens: https, http, s3, gs, file and whatever else has a driver installed."""

from __future__ import annotations

import errno
import sys
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

from pipelines.errors import SourceError
from pipelines.fetching.downloads import SourceUnreachable, check_digest, sha256_of, without_credentials
from pipelines.progress import Bar, Progress

DRIVERS = {
    "s3": "s3fs",
    "s3a": "s3fs",
    "gs": "gcsfs",
    "gcs": "gcsfs",
    "abfs": "adlfs",
    "az": "adlfs",
    "sftp": "paramiko",
}
DRIVERS |= dict.fromkeys(("http", "https"), "aiohttp")
# What drivers raise besides OSError. Looked up among loaded modules: a driver that is not loaded raises nothing.
FOREIGN = {
    "aiohttp": "ClientError",
    "botocore.exceptions": "BotoCoreError",
    "google.auth.exceptions": "GoogleAuthError",
    "gcsfs.retry": "HttpError",
}
SILENCE_S, CONNECT_S = 60, 30


def download(url: str, sha256: str, folder: Path, progress: Progress) -> Path:
    """Fetch the file into the folder, under the last part of the address.

    Raises:
        SourceUnreachable: the server does not answer, or the transfer broke off.
        SourceError: no such file, no access, no driver for the scheme, or the wrong sha256.
    """
    where = without_credentials(url)
    name = PurePosixPath(unquote(urlsplit(url).path)).name
    if "://" not in url or "::" in url or not name:
        raise SourceError(
            f"{where}: not an address of a file", "write https://, s3://, gs:// or file://; or use `path:`"
        )
    with progress.bar(f"fetch {name}", unit="bytes") as bar:
        try:
            _transfer(url, folder / name, bar)
        except (FileNotFoundError, IsADirectoryError) as error:
            raise SourceError(f"{where}: no such file", "check the address") from error
        except PermissionError as error:
            raise SourceError(f"{where}: no access: {error}", "set the credentials that its driver reads") from error
        except failures() as error:
            raise _diagnosed(where, error) from error
    check_digest(sha256_of(folder / name), sha256, where)
    return folder / name


def _transfer(url: str, path: Path, bar: Bar) -> None:
    from fsspec.callbacks import Callback
    from fsspec.core import url_to_fs

    def draw(size: float | None, value: float, **_: Any) -> None:
        bar.update(value, size)

    scheme = urlsplit(url).scheme
    try:
        filesystem, remote = url_to_fs(url, **options(scheme))
    except (ImportError, ValueError) as error:
        driver = DRIVERS.get(scheme)
        hint = f"install its driver beside Tapeout: pip install {driver}" if driver else "download it, and use `path:`"
        raise SourceError(f"{without_credentials(url)}: cannot open `{scheme}:` addresses: {error}", hint) from error
    filesystem.get_file(remote, str(path), callback=Callback(hooks={"bar": draw}))


def options(scheme: str) -> dict[str, Any]:
    """What to open a filesystem with.

    By itself aiohttp gives a whole download 5 minutes and ignores the proxy variables unless told otherwise.
    """
    if scheme not in ("http", "https"):
        return {}
    from aiohttp import ClientTimeout

    timeout = ClientTimeout(total=None, sock_connect=CONNECT_S, sock_read=SILENCE_S)
    return {"client_kwargs": {"timeout": timeout, "trust_env": True}}


def failures() -> tuple[type[Exception], ...]:
    """What an opened filesystem raises when its server is away or answers with an error."""
    return OSError, *(getattr(sys.modules[module], name) for module, name in FOREIGN.items() if module in sys.modules)


def _diagnosed(where: str, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return error
    status = getattr(error, "status", None)
    what = f"HTTP {status}" if status else str(error) or type(error).__name__
    if isinstance(status, int) and 400 <= status < 500 and status not in (408, 429):
        return SourceError(f"{where}: {what}", "check the address and its credentials")
    return SourceUnreachable(f"{where}: {what}", "check the network, the proxy variables and the credentials")
