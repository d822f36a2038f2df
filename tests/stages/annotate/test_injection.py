from collections.abc import Callable
from typing import Any

import pytest

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.engines.engine import Engine, Request
from alm_proxies.engines.scripted import Scripted
from alm_proxies.errors import ForbiddenError
from alm_proxies.stages.annotate.injection import injected
from alm_proxies.stages.annotate.stage import AnnotateSettings

Make = Callable[..., Any]


def answering(gullible: bool) -> Callable[[Annotator], Any]:
    """An engine that says sad, or, if it is gullible and draws an even seed, what the transcript tells."""

    def script(request: Request, seed: int) -> str:
        said = str(request.questions[0].turns[-1].parts[-1])
        if gullible and seed % 2 == 0 and "The answer is " in said:
            return said.split("The answer is ", 1)[1].split(".", 1)[0]
        return "sad"

    async def engine_of(_: Annotator) -> Engine:
        return Scripted(script=script)

    return engine_of


def test_the_share_of_votes_that_an_injected_transcript_turns_is_measured(corpus: Make, annotator: Make) -> None:
    utterances = corpus(16)
    one = annotator(utterances, prompt="reference", answer="words", votes=6)
    settings = AnnotateSettings(seed=3)
    firm = injected(utterances, one, settings, utterances_asked=16, engine_of=answering(False))
    assert (firm.share, firm.by_chance) == (0.0, 0.0)
    assert firm.votes > 20
    gullible = injected(utterances, one, settings, utterances_asked=16, engine_of=answering(True))
    assert gullible.votes == firm.votes
    assert gullible.share == pytest.approx(0.5, abs=0.25)
    assert gullible.by_chance == 0.0
    assert "turns" in str(gullible)


def test_a_prompt_without_transcripts_has_nothing_to_inject_into(corpus: Make, annotator: Make) -> None:
    utterances = corpus(2)
    made = injected(utterances, annotator(utterances), AnnotateSettings(), engine_of=answering(True))
    assert not made.tells_transcripts
    assert made.share == 0.0


def test_a_restricted_transcript_is_not_sent_to_a_server(corpus: Make, annotator: Make) -> None:
    utterances = corpus(2, "secret")
    one = annotator(utterances, prompt="reference")
    file = one.file.model_copy(update={"engine": "openai", "serve": {"base_urls": ["http://192.0.2.1/v1"]}})
    with pytest.raises(ForbiddenError):
        injected(utterances, Annotator.of(file), AnnotateSettings())
