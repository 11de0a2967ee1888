"""Models and data of a hub that speaks the Hugging Face API, by its own client."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from pipelines.errors import SourceError
from pipelines.fetching.downloads import SourceUnreachable
from pipelines.progress import Bar, Progress
from stages.base import Frozen


class Snapshot(Frozen):
    """What was downloaded: the commit behind the revision, and the licence that the model card names."""

    commit: str
    licence: str | None = None


def download_model(name: str, revision: str, patterns: tuple[str, ...], into: Path, progress: Progress) -> Snapshot:
    """Fill the folder with the repository's files that match.

    Raises:
        SourceUnreachable: the hub does not answer.
        SourceError: no such repository, revision or file, or no access; or the patterns fetch several GGUF files.
    """
    from huggingface_hub import HfApi

    with _told(name, revision), progress.bar(f"fetch {name}", unit="bytes") as bar:
        info = HfApi().model_info(name, revision=revision, files_metadata=True)
        files = _chosen(name, [(file.rfilename, file.size or 0) for file in info.siblings or []], patterns)
        bar.update(0, sum(files.values()))
        commit = str(info.sha or revision)
        _snapshot(name, commit, list(files), into, bar)
        card = info.card_data.to_dict() if info.card_data else {}
        return Snapshot(commit=commit, licence=card.get("license"))


def commit_of(name: str, revision: str) -> str:
    """The commit that the revision stands for now; raises as `download_model` does."""
    from huggingface_hub import HfApi

    with _told(name, revision):
        return str(HfApi().model_info(name, revision=revision).sha)


def download_data(name: str, revision: str, file: str, cache: Path, progress: Progress) -> Path:
    """One file of a dataset repository, in the client's own cache under `cache`; raises as `download_model` does."""
    from huggingface_hub import hf_hub_download

    with _told(name, revision), progress.bar(f"fetch {name}", unit="bytes") as bar:
        path = hf_hub_download(
            name, file, repo_type="dataset", revision=revision, cache_dir=cache, tqdm_class=_reporting_to(bar)
        )
        return Path(path)


def _chosen(name: str, files: list[tuple[str, int]], patterns: tuple[str, ...]) -> dict[str, int]:
    """The files to fetch, with their sizes; a GGUF repository can hold 100 GB of variants, of which one is wanted."""
    chosen = {file: size for file, size in files if any(fnmatch(file, pattern) for pattern in patterns)}
    if not chosen:
        raise SourceError(f"hf: {name}: no file matches {', '.join(patterns)}", "see the repository, then set `files`")
    ggufs = [file for file in chosen if file.endswith(".gguf")]
    if any(file.endswith(".safetensors") for file in chosen) and "config.json" in chosen:
        return {file: size for file, size in chosen.items() if file not in ggufs}
    if len(ggufs) > 1:
        raise SourceError(f"hf: {name}: holds {len(ggufs)} GGUF files: {', '.join(ggufs)}", "name one: `files: [NAME]`")
    return chosen


def _snapshot(name: str, commit: str, files: list[str], into: Path, bar: Bar) -> None:
    from huggingface_hub import snapshot_download

    try:
        # what a name means in `allow_patterns` it means to fnmatch: brackets would be a character class
        patterns = [file.replace("[", "[[]") for file in files]
        snapshot_download(name, revision=commit, allow_patterns=patterns, local_dir=into, tqdm_class=_reporting_to(bar))
    finally:
        shutil.rmtree(into / ".cache", ignore_errors=True)  # the client's notes, no part of the model


def _reporting_to(bar: Bar) -> type[Any]:
    """The client draws with tqdm; this one draws on our bar."""
    from huggingface_hub.utils import tqdm

    class Reporting(tqdm):  # type: ignore[misc]  # follow_imports = "skip" makes the base Any
        def __init__(self, *arguments: Any, **options: Any) -> None:
            self.reports = options.get("unit") == "B" and "Downloading" not in str(options.get("desc"))
            super().__init__(*arguments, **{**options, "disable": True})

        def update(self, n: float | None = 1) -> None:
            self.n += n or 0
            if self.reports:
                bar.update(self.n, self.total or None)

    return Reporting


@contextmanager
def _told(name: str, revision: str) -> Iterator[None]:
    """The client's errors in our words."""
    import httpx2
    from huggingface_hub import errors

    what = f"hf: {name} at {revision}"
    try:
        yield
    except errors.HFValidationError as error:
        raise SourceError(f"hf: {name}: not a repository id: {error}", "write organisation/name") from error
    except errors.GatedRepoError as error:
        raise SourceError(
            f"{what}: access must be asked for", "accept its terms on the hub, then set HF_TOKEN"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise SourceError(
            f"{what}: no such repository, or it is private", "check the id; HF_TOKEN for private ones"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise SourceError(f"{what}: no such revision", "name a commit, branch or tag of the repository") from error
    except errors.OfflineModeIsEnabled as error:
        raise SourceError(f"{what}: HF_HUB_OFFLINE is set", "unset it, or use `path:` with a copy") from error
    except errors.RemoteEntryNotFoundError as error:
        raise SourceError(f"{what}: no such file", "see the repository for its files") from error
    except (errors.LocalEntryNotFoundError, httpx2.TransportError) as error:
        reason = error.__cause__ or error
        raise SourceUnreachable(
            f"{what}: the hub cannot be reached: {reason}", "check the network and HF_ENDPOINT"
        ) from error
    except errors.HfHubHTTPError as error:
        raise _refused(what, error) from error


def _refused(what: str, error: Any) -> SourceError:
    status = error.response.status_code
    if status == 429 or status >= 500:
        return SourceUnreachable(f"{what}: the hub answers HTTP {status}", "wait, then run again")
    return SourceError(f"{what}: the hub answers HTTP {status}", "check the id, the revision and HF_TOKEN")
