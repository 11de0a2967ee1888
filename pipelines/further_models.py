"""Makes the models beside the one that a run is about: the teacher it learns from, the draft model it goes with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pipelines.beside import TEACHER
from pipelines.chain import Chain
from pipelines.config import LoadedConfig
from pipelines.making import obtain
from pipelines.same_tokens import DRAFT, check_tokens
from pipelines.source_kind import kind_of_source
from pipelines.standing import Standing
from pipelines.tracking.tracker import NullTracker
from pipelines.workshop import Around, Workshop, plainly
from stages.base import Artifact


def teacher_of(loaded: LoadedConfig, shop: Workshop, around: Around) -> Mapping[str, Artifact]:
    """The config's own teacher as an input of stages, where it names one; else the reference will be it."""
    source = loaded.config.teacher
    if source is None:
        return {}
    loaded = replace(loaded, config=loaded.config.model_copy(update={"source": source}))
    recipe = shop.fetching(loaded, kind_of_source(source, loaded.folder), shop.progress)
    return {TEACHER: around("fetch-teacher", lambda: obtain(shop.store, recipe, shop.progress), 2).artifact}


def draft_chain(chain: Chain) -> Chain | None:
    """The chain that makes the draft model of a chain's config, where it names one; nothing of it is tracked."""
    config, plan, shop = chain.loaded.config.drafting, chain.plan.draft, chain.shop
    if config is None or plan is None:
        return None
    (shop.logs / "draft").mkdir(parents=True, exist_ok=True)
    shop = replace(shop, tracker=NullTracker(), logs=shop.logs / "draft")
    return Chain.of(replace(chain.loaded, config=config), plan, shop)


def make_draft(drafting: Chain, reference: Standing, around: Around = plainly) -> Artifact:
    """The draft model; its steps are given what stands beside the reference.

    Raises:
        InputRejected: its tokens are not the reference's.
    """
    now = replace(reference, model=around("fetch-draft", drafting.fetch, 2))
    for planned in drafting.plan.steps:
        now = drafting.advance(planned, now, around, f"draft-{planned.step.name}")
    check_tokens(reference.model, now.model, drafting.shop.store, drafting.shop.progress, DRAFT)
    return now.model
