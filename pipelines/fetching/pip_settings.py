"""Where the user's pip looks for packages: its configuration files, environment variables and default."""

from __future__ import annotations

import ast
import os
import re
import ssl
import subprocess
import sys
from pathlib import Path

from pipelines.errors import SourceError
from stages.base import Frozen

SECTIONS = ("global", "download", ":env:")  # the later one wins, as in `pip download`
DEFAULT_INDEX = re.compile(r"--index-url\s.*?\(default\s+(\S+?)\)", re.DOTALL)


class PipSettings(Frozen):
    """What `pip download` would use. `cert` is a bundle or folder of certificates, `timeout` is in seconds."""

    index_urls: tuple[str, ...]
    find_links: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()
    cert: Path | None = None
    client_cert: Path | None = None
    proxy: str | None = None
    timeout: float = 15.0

    def tls(self) -> ssl.SSLContext | bool:
        """The context to verify servers with; True for the client's own default.

        Raises:
            SourceError: a certificate named in pip's settings cannot be read.
        """
        if not self.cert and not self.client_cert:
            return True
        try:
            is_folder = self.cert is not None and self.cert.is_dir()
            context = ssl.create_default_context(
                cafile=None if is_folder else self.cert, capath=self.cert if is_folder else None
            )
            if self.client_cert:
                context.load_cert_chain(self.client_cert)
        except OSError as error:
            raise SourceError(
                f"pip's setting `cert` or `client-cert` cannot be used: {error}",
                "see `python -m pip config list`, and `python -m pip config unset global.cert`",
            ) from error
        return context


def read_pip_settings() -> PipSettings:
    """Ask pip, so that whatever pip honours is honoured.

    Raises:
        SourceError: pip is missing or its settings are broken.
    """
    values = parse(_pip("config", "list"))
    offline = values.get("no-index", "").lower() in ("1", "true", "yes", "on", "y", "t")
    index_urls = () if offline else (values.get("index-url") or _default_index(), *_several(values, "extra-index-url"))
    cert = values.get("cert") or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    client_cert = values.get("client-cert")
    return PipSettings(
        index_urls=tuple(map(_as_url, index_urls)),
        find_links=tuple(map(_as_url, _several(values, "find-links"))),
        trusted_hosts=_several(values, "trusted-host"),
        cert=Path(cert) if cert else None,
        client_cert=Path(client_cert) if client_cert else None,
        proxy=values.get("proxy"),
        timeout=float(values.get("timeout") or values.get("default-timeout") or 15.0),
    )


def parse(listing: str) -> dict[str, str]:
    """The options of `pip config list` that count for a download, by their long name."""
    found: dict[str, dict[str, str]] = {section: {} for section in SECTIONS}
    for line in listing.splitlines():
        key, _, value = line.partition("=")
        section, _, option = key.partition(".")
        if section in found and (text := str(ast.literal_eval(value)).strip()):
            found[section][option] = text
    return {option: value for section in SECTIONS for option, value in found[section].items()}


def _several(values: dict[str, str], option: str) -> tuple[str, ...]:
    return tuple(values.get(option, "").split())


def _as_url(location: str) -> str:
    return location if "://" in location else Path(location).expanduser().absolute().as_uri()


def _default_index() -> str:
    if match := DEFAULT_INDEX.search(_pip("download", "--help")):
        return match[1]
    raise SourceError(
        "pip names no default package index",
        "name one: python -m pip config set global.index-url URL",
    )


def _pip(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pip", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "COLUMNS": "200"},  # so that the help text does not break the address
    )
    if done.returncode == 0:
        return done.stdout
    last = (done.stderr.strip() or "no output").splitlines()[-1]
    raise SourceError(
        f"pip's settings cannot be read: {last}",
        f"`{sys.executable} -m pip config debug` shows where they come from; if pip itself is missing: "
        f"{sys.executable} -m ensurepip",
    )
