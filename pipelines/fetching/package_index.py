"""The package registry that the user's pip is set up for, as unearth's fetcher."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from pipelines.errors import SourceError
from pipelines.fetching.downloads import SourceUnreachable, without_credentials
from pipelines.fetching.pip_settings import PipSettings

if TYPE_CHECKING:
    import httpx2
    from unearth import Package

REFUSALS = (401, 403, 407)


@dataclass(eq=False)
class Index:
    """unearth's fetcher over the user's indexes. It notes failures, so that one dead index does not hide the others."""

    client: Any
    settings: PipSettings
    unanswered: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    def get(self, url: str, *, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """One page of an index; a failure is noted and answered as 503."""
        return self._ask("GET", url, headers)

    def head(self, url: str, *, headers: Mapping[str, str] | None = None) -> httpx2.Response:
        """As `get`, without the body."""
        return self._ask("HEAD", url, headers)

    def get_stream(
        self, url: str, *, headers: Mapping[str, str] | None = None
    ) -> AbstractContextManager[httpx2.Response]:
        """A response whose body is not read yet."""
        return cast("AbstractContextManager[httpx2.Response]", self.client.stream("GET", url, headers=headers))

    def iter_secure_origins(self) -> Iterator[tuple[str, str, str]]:
        """As the client has them: https, loopback, files and pip's trusted hosts."""
        yield from self.client.iter_secure_origins()

    def archives(self, pin: str) -> list[Package]:
        """The best wheel and the best sdist of that version, the wheel first.

        Raises:
            SourceUnreachable, SourceError: there is none, or it cannot be known.
        """
        from unearth import PackageFinder

        logging.getLogger("unearth").setLevel(logging.ERROR)  # its warnings are part of our message
        locations = {"index_urls": self._usable(), "find_links": self.settings.find_links}
        if not any(locations.values()):  # unearth would fall back to an index that the user did not name
            raise SourceError(f"{pin}: pip's settings leave no index to look in", way_out("; ".join(self.refused)))
        finder = PackageFinder(session=self, ignore_compatibility=True, **locations)
        found = finder.find_best_match(pin)
        best = {package.link.is_wheel: package for package in reversed(list(found.applicable))}
        if not best:
            raise self._not_found(pin, [str(package.version) for package in found.candidates])
        return [best[is_wheel] for is_wheel in (True, False) if is_wheel in best]

    def _usable(self) -> list[str]:
        from unearth import Link
        from unearth.collector import is_secure_origin

        plain = [url for url in self.settings.index_urls if not is_secure_origin(self, Link(url))]
        self.refused += [f"{without_credentials(url)} is plain http and not a trusted host" for url in plain]
        return [url for url in self.settings.index_urls if url not in plain]

    def _ask(self, method: str, url: str, headers: Mapping[str, str] | None) -> httpx2.Response:
        import httpx2

        where = without_credentials(url)
        try:
            response: httpx2.Response = self.client.request(method, url, headers=headers)
        except httpx2.TransportError as error:
            self.unanswered.append(f"{where}: {error or type(error).__name__}")
            return httpx2.Response(503, request=httpx2.Request(method, url))
        if response.status_code in REFUSALS:
            self.refused.append(f"{where}: HTTP {response.status_code} {response.reason_phrase}")
        elif response.status_code == 429 or response.status_code >= 500:
            self.unanswered.append(f"{where}: HTTP {response.status_code} {response.reason_phrase}")
        return response

    def _not_found(self, pin: str, versions: list[str]) -> SourceError:
        name, _, version = pin.partition("==")
        trouble = "; ".join(self.unanswered + self.refused)
        if self.unanswered:
            return SourceUnreachable(f"{pin}: the package registry cannot be reached: {trouble}", way_out())
        if versions:
            newest = ", ".join(dict.fromkeys(versions[:5]))
            return SourceError(f"{name}: there is no version {version}", way_out(trouble, f"there is {newest}"))
        looked = ", ".join(map(without_credentials, (*self.settings.index_urls, *self.settings.find_links)))
        return SourceError(f"{name}: no package of that name in {looked}", way_out(trouble))


def way_out(trouble: str = "", first: str = "") -> str:
    """The hint of every failure of the registry: what else went wrong, and where the settings are to be seen."""
    settings = "`python -m pip config list` shows the indexes, proxy and certificates in use"
    return "; ".join(filter(None, (first, trouble, settings)))


@contextmanager
def open_index(settings: PipSettings) -> Iterator[Index]:
    """The registry that the settings describe, for the length of the block."""
    from unearth.auth import MultiDomainBasicAuth
    from unearth.fetchers import PyPIClient

    client = PyPIClient(
        trusted_hosts=settings.trusted_hosts,
        verify=settings.tls(),
        proxy=settings.proxy,
        timeout=settings.timeout,
        follow_redirects=True,
    )
    client.auth = MultiDomainBasicAuth(prompting=False, index_urls=settings.index_urls)
    with client:
        yield Index(client, settings)
