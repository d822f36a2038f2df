"""Which audio may leave this machine."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.cards import stays_because
from alm_proxies.engines.registry import OpenAIServe, engine_kind
from alm_proxies.errors import ForbiddenError
from alm_proxies.stages.annotate.settings import AnnotateSettings
from alm_proxies.uris import is_loopback


def leaves_this_machine(annotator: Annotator) -> bool:
    """Whether an annotator's requests leave this machine: any server address that is not loopback."""
    serve = annotator.serve
    if isinstance(serve, OpenAIServe):
        return not all(is_loopback(url) for url in serve.base_urls)
    return not engine_kind(annotator.file.engine).local


def refuse_all_egress(
    corpora: Sequence[str], panel: Iterable[Annotator], settings: AnnotateSettings, *, local: bool | None = None
) -> None:
    """Refuse corpora that may not leave this machine; `local` is the opened engine's answer instead of the files'."""
    for annotator in panel:
        stays = not leaves_this_machine(annotator) if local is None else local
        refuse_egress(corpora, annotator, stays, named=settings.may_leave, cards=settings.cards)


def refuse_egress(
    corpora: Iterable[str], annotator: Annotator, local: bool, *, named: Collection[str], cards: Path | None
) -> None:
    """Refuse to send a corpus off this machine if its card forbids it and the settings do not allow it."""
    if local:
        return
    for corpus in sorted(set(corpora)):
        reason = stays_because(corpus, named=named, folder=cards)
        if reason is not None:
            shown = corpus or "its name"
            raise ForbiddenError(
                f"{annotator.name} is asked over the network, and {reason}",
                where=annotator.where,
                fix=f"Use an engine on this machine; or, if you may, write may_leave = [{shown!r}] under [annotate].",
            )
