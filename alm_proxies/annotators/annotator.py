"""Annotators: a model with a prompt and sampling settings; their cells, seeds and requests about an utterance."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from alm_proxies.about import AnnotatorCard
from alm_proxies.annotators.annotator_file import AnnotatorFile, annotator_path, check_file, refuse_unknown
from alm_proxies.annotators.answers import finish, shares_of
from alm_proxies.annotators.asking import Asking
from alm_proxies.annotators.cells import Cell, cells_of, label_orders
from alm_proxies.annotators.prompts import Prompt, PromptContext, prompt_of
from alm_proxies.annotators.stated import schema
from alm_proxies.annotators.wording import AnswerFormat
from alm_proxies.audio.clip import Clip, open_clip
from alm_proxies.engines.engine import Audio, Engine, Question, Request, Sampling, Turn, draw_seeds
from alm_proxies.engines.registry import ScriptedServe, Serve, open_engine, serve_settings
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.files import digest_file, digest_of, weights_digest
from alm_proxies.models.checkpoints import has_head
from alm_proxies.printable import counted
from alm_proxies.seeds import seed_of
from alm_proxies.settings import read_settings
from alm_proxies.taxonomy import taxonomy_of

_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True, eq=False)
class Annotator:
    """An annotator: a model, a prompt and sampling settings, ready to vote on utterances with `labels`."""

    file: AnnotatorFile
    prompt: Prompt
    where: str
    labels: tuple[str, ...] = ()
    cells: tuple[Cell, ...] = ()
    votes: int = 0
    digest: str = ""

    @classmethod
    def read(
        cls, path: str | Path, *, taxonomy: str | Sequence[str] | None = None, beside: str | Path = "."
    ) -> Annotator:
        """Read an annotator from a file, or a shipped one by name ("embedded"); with a taxonomy it is ready to vote."""
        path = annotator_path(path, beside)
        return cls.of(read_settings(path, AnnotatorFile), where=str(path), taxonomy=taxonomy)

    @classmethod
    def of(
        cls, file: AnnotatorFile, *, where: str = "annotator", taxonomy: str | Sequence[str] | None = None
    ) -> Annotator:
        """Build an annotator from its settings; a prompt's path is relative to the folder of the file `where`."""
        annotator = cls(file, prompt_of(file.prompt, Path(where).parent), where)
        check_file(file, annotator.prompt, where)
        return annotator if taxonomy is None else annotator.ready(taxonomy_of(taxonomy).labels)

    def ready(self, labels: tuple[str, ...], votes: int | None = None) -> Annotator:
        """The annotator with its labels, cells and number of votes; `votes` overrides the file's number."""
        file, elicits = self.file, self.prompt.elicits
        if not labels and elicits != "attributes":
            raise SettingsError("there are no labels to choose from", fix="Name a taxonomy, e.g. msp8.")
        refuse_unknown(file, labels, self.where)
        if file.answer == "codes" and len(labels) > len(_LETTERS):
            fix = 'Write answer = "words".'
            words = f"{counted(len(labels), 'label')}, more than the 26 letters that serve as codes"
            raise SettingsError(words, where=self.where, fix=fix)
        shown = labels if elicits != "attributes" else ()
        if file.answer == "codes" and file.elicit != "score":
            _refuse_codes(shown, self.where)
        orders = label_orders(len(shown), file.cross.label_orders, where=self.where)
        cells = cells_of(file.cross.temperature, file.cross.focus, orders)
        count = votes or file.votes or len(cells)
        if file.elicit == "score" and count > len(cells):
            raise SettingsError(
                f"votes = {count} is more than the {counted(len(cells), 'cell')}, and a score is the same for all "
                "draws of a cell",
                where=self.where,
                fix=f"Write votes = {len(cells)}, or raise cross.label_orders.",
            )
        settings = file.deciding()
        if not file.content_free:
            del settings["content_free"]
        if self.local is not None and file.revision is None:
            settings["revision"] = weights_digest(self.local)
        serve = self.serve
        if isinstance(serve, ScriptedServe) and Path(serve.answers).is_file():
            settings["answers"] = digest_file(serve.answers)
        used = file.cross.focus
        digest = digest_of({**settings, "prompt": self.prompt.digest(used), "labels": list(labels)})
        return replace(self, labels=labels, cells=cells, votes=count, digest=digest)

    @property
    def name(self) -> str:
        """The annotator's name, written on each of its votes."""
        return self.file.name

    @property
    def local(self) -> Path | None:
        """The model's folder, or None if it is not local; "." and "../x" are relative to the annotator file."""
        beside = Path(self.where).parent if self.file.model.startswith(".") else Path()
        folder = beside / Path(self.file.model).expanduser()
        return folder if folder.is_dir() else None

    @property
    def model(self) -> str:
        """The model that the engine loads or requests."""
        return str(self.local or self.file.model)

    @property
    def model_name(self) -> str:
        """The model's name for people: the same on every machine."""
        return (
            self.local.resolve().name if self.local is not None and self.file.model.startswith(".") else self.file.model
        )

    @property
    def serve(self) -> Serve:
        """The engine's settings; a scripted one's table is beside the annotator file, or in the working folder."""
        serve = serve_settings(self.file.engine, self.file.serve, where=self.where)
        if not isinstance(serve, ScriptedServe) or not serve.answers:
            return serve
        here = Path(serve.answers).expanduser()
        beside = Path(self.where).parent / here
        answers = here if here.is_file() and not beside.exists() else beside
        return serve.model_copy(update={"answers": str(answers)})

    @property
    def estimand(self) -> str:
        """The label distribution that the votes estimate."""
        if self.local is not None and has_head(self.local):
            return "the calibrated distribution of a head that learned listeners' votes"
        if self.file.elicit == "score":
            answers = "codes" if self.file.answer == "codes" else "words and the end of the turn"
            corrected = ", divided by those that silence gets" if self.file.content_free else ""
            return f"teacher-forced probabilities of the {answers}, normalised over the labels{corrected}"
        if self.file.elicit == "state":
            return "what the model states" + (", held to its form" if self.file.constrain else "")
        if self.file.constrain:
            return "sampled one-token codes, the rest of the vocabulary masked"
        return "sampled free replies that can be read as a label"

    def card(self, seed: int) -> AnnotatorCard:
        """The annotator's card, stored in the metadata of its votes' table."""
        file = self.file
        return AnnotatorCard(
            digest=self.digest,
            engine=file.engine,
            model=self.model_name,
            revision=file.revision,
            prompt=self.prompt.digest(file.cross.focus),
            elicit=file.elicit,
            estimand=self.estimand,
            cross={
                "temperature": list(file.cross.temperature),
                "focus": list(file.cross.focus),
                "label_orders": file.cross.label_orders,
            },
            seed=seed,
            context=self.prompt.context_fields,
            currency=file.price.currency or None,
            trained_on={corpus: list(speakers) for corpus, speakers in file.trained_on.items()} or None,
            measured=file.measured,
        )

    def codes(self, cell: Cell) -> tuple[str, ...] | None:
        """The codes of the labels in the order that the cell shows; None if the answer is the label itself."""
        return tuple(_LETTERS[: len(cell.order)]) if self.file.answer == "codes" and cell.order else None

    def asked(self, cell: Cell) -> AnswerFormat:
        """The form of a reply in a cell; codes belong to positions, so a label's code depends on the cell's order."""
        shown = tuple(self.labels[index] for index in cell.order)
        return AnswerFormat(self.prompt.elicits, shown, self.codes(cell), self.prompt.scale)

    def question(self, cell: Cell, audio: Audio | None, context: PromptContext) -> Question:
        """The conversation about one recording in one cell."""
        asked = self.asked(cell)
        rendered = self.prompt.render(labels=asked.labels, codes=asked.codes, focus=cell.focus, context=context)
        parts: list[str | Audio] = [rendered.before] if rendered.before else []
        parts += [audio] if audio is not None else []
        system = (Turn("system", (rendered.system,)),) if rendered.system else ()
        turns = (*system, Turn("user", (*parts, rendered.after)))
        answer_of = dict(zip(asked.labels, asked.codes or asked.labels, strict=True))
        labels = tuple(label for label in self.labels if label in answer_of)
        return Question(turns, tuple(answer_of[label] for label in labels), labels)

    def seed_of_draw(self, seed: int, utterance_id: str, draw: int) -> int:
        """The seed of a draw, from (seed, utterance, annotator, draw) only; consecutive within a cell."""
        return self._seeds(seed, utterance_id, draw % len(self.cells), (draw,))[0]

    def _seeds(self, seed: int, utterance_id: str, place: int, draws: Iterable[int]) -> tuple[int, ...]:
        """The seeds of draws of one cell."""
        (first,) = draw_seeds(seed_of(seed, utterance_id, self.name, place), 0, 1)
        return tuple(first + draw // len(self.cells) for draw in draws)

    def askings(
        self, utterance_id: str, draws: Iterable[int], audio: Audio, context: PromptContext, seed: int
    ) -> list[Asking]:
        """The requests for the given draws: one per cell, or one for all cells if labels are scored."""
        by_place: dict[int, list[int]] = {}
        for draw in sorted(draws):
            by_place.setdefault(draw % len(self.cells), []).append(draw)
        places = [place for place in range(len(self.cells)) if place in by_place]
        if self.file.elicit == "score":
            asked = tuple(self.asked(self.cells[place]) for place in places)
            questions = tuple(self.question(self.cells[place], audio, context) for place in places)
            request = Request(
                f"{self.name}|{utterance_id}", utterance_id, "score", questions, sampling=self._sampling(1.0)
            )
            return [Asking(request, tuple(places), tuple(places), asked)]
        return [self._sampled(utterance_id, place, tuple(by_place[place]), audio, context, seed) for place in places]

    def _sampled(
        self, utterance_id: str, place: int, draws: tuple[int, ...], audio: Audio, context: PromptContext, seed: int
    ) -> Asking:
        cell = self.cells[place]
        asked = self.asked(cell)
        request = Request(
            key=f"{self.name}|{utterance_id}|{place}|{draws[0]}",
            utterance_id=utterance_id,
            elicit=self.file.elicit,
            questions=(self.question(cell, audio, context),),
            seeds=self._seeds(seed, utterance_id, place, draws),
            sampling=self._sampling(cell.temperature),
            constrained=self.file.constrain,
            schema=schema(asked) if self.file.elicit == "state" and self.file.constrain else None,
        )
        return Asking(request, draws, (place,) * len(draws), (asked,) * len(draws))

    def _sampling(self, temperature: float) -> Sampling:
        chosen = self.file.sampling
        return Sampling(temperature, chosen.top_p, chosen.top_k, chosen.repetition_penalty, chosen.max_tokens)

    def material(self, audio_digest: str, start: float | None, end: float | None, context: PromptContext) -> str:
        """A digest (16 hexadecimal digits) of the audio and the context of an utterance."""
        used = [
            audio_digest,
            repr(start),
            repr(end),
            *(repr(getattr(context, name)) for name in self.prompt.context_fields),
        ]
        return hashlib.blake2b("\x1f".join(used).encode("utf-8", "replace"), digest_size=8).hexdigest()

    def request_digest(self, material: str, seed_of_draw: int, draw: int) -> str:
        """A digest (16 hexadecimal digits) of everything that a vote depends on."""
        text = f"{self.digest}|{material}|{draw % len(self.cells)}|{seed_of_draw}"
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def distribution(self, clips: Sequence[Clip | Audio | str | Path], *, seed: int = 0) -> NDArray[np.float64]:
        """Mean label shares of the votes on each clip, (clips, labels in taxonomy order); nan if there is none."""
        if not self.cells:
            fix = 'Read it with one: Annotator.read(path, taxonomy="msp8").'
            raise SettingsError("the annotator has no taxonomy, so no labels to choose from", where=self.where, fix=fix)

        async def work() -> NDArray[np.float64]:
            engine = await self.open()
            try:
                return await shares_of(self, engine, [_audio(clip, engine.abilities.rate) for clip in clips], seed)
            finally:
                await engine.close()

        return finish(work())

    async def open(self) -> Engine:
        """Open the engine and check that it can do what the file asks for, including that each code is one token."""
        engine = await open_engine(
            self.model, self.serve, revision=None if self.local else self.file.revision, engine=self.file.engine
        )
        try:
            await self.check_engine(engine)
        except BaseException:
            await engine.close()
            raise
        return engine

    async def check_engine(self, engine: Engine) -> None:
        """Raise SettingsError if the engine cannot do what the annotator file asks for."""
        can, file = engine.abilities, self.file
        cannot = None
        if not can.audio:
            cannot = ("takes no audio", "Name a model with audio input.")
        elif not can.answers and (file.elicit, file.answer) != ("score", "words"):
            fix = 'Write elicit = "score" and answer = "words", as in the annotator file of its training.'
            cannot = ("predicts by a head of its own and answers nothing", fix)
        elif file.elicit == "score" and not can.score:
            cannot = ("cannot score labels", 'Write elicit = "sample", or use another engine.')
        elif file.elicit == "score" and file.answer == "words" and not can.score_words:
            cannot = ("scores answers of one token only", 'Write answer = "codes".')
        elif file.constrain and not (can.schema if file.elicit == "state" else can.structured):
            cannot = ("does not support structured outputs", "Write constrain = false.")
        if cannot is None and file.answer == "codes" and self.cells and self.cells[0].order:
            codes = self.codes(self.cells[0]) or ()
            counts = await engine.token_counts(codes)
            several = [code for code, count in zip(codes, counts or (), strict=False) if count != 1]
            if several:
                cannot = (f"needs several tokens for the code {several[0]!r}", 'Write answer = "words".')
        if cannot is not None:
            raise SettingsError(f"{can.engine} {can.model} {cannot[0]}", where=self.where, fix=cannot[1])


def _refuse_codes(labels: Sequence[str], where: str) -> None:
    """Raise SettingsError for a label that is a code too: a reply could mean either of two labels."""
    codes = _LETTERS[: len(labels)]
    both = [label for label in labels if len(label) == 1 and label.upper() in codes]
    if both:
        message = (
            f"the label {both[0]!r} is also one of the codes {codes[0]} to {codes[-1]}, so that replies are ambiguous"
        )
        raise SettingsError(message, where=where, fix='Write answer = "words", or give the labels longer names.')


def _audio(clip: Clip | Audio | str | Path, rate: int) -> Audio:
    if isinstance(clip, str | Path):
        clip = open_clip(clip, rate=rate)
    if clip.rate != rate:
        raise InputError(f"a clip has {clip.rate} Hz, the engine needs {rate} Hz", fix=f"Open it at {rate} Hz.")
    return clip if isinstance(clip, Audio) else Audio(clip.samples, clip.rate)
