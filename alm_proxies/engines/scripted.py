"""An engine without a model: answers from a table or a function, with faults on demand."""

from __future__ import annotations

import asyncio
import json
import math
import reprlib
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np

from alm_proxies.engines.engine import MAY_BE_PAID, Abilities, Failure, Reply, Request, Trouble
from alm_proxies.engines.registry import ScriptedServe
from alm_proxies.engines.third_party import code_failure
from alm_proxies.errors import InputError, SettingsError
from alm_proxies.seeds import generator
from alm_proxies.table_files import load_table

Script = Callable[[Request, int], str]
"""The answer to one draw of a request, given its seed."""
Shares = Callable[[Request], Mapping[str, float]]
"""The label distribution of a request's utterance: every label by its name, in any order."""


class Scripted:
    """Scripted answers: texts by `script`, or draws and exact scores from `shares`."""

    def __init__(
        self,
        *,
        script: Script | None = None,
        shares: Shares | None = None,
        faults: Mapping[Trouble, float] | None = None,
        seconds: float = 0.0,
        name: str = "scripted",
    ) -> None:
        if (script is None) == (shares is None):
            raise ValueError("a scripted engine needs either a script or shares")
        unknown = sorted(set(faults or {}) - set(get_args(Trouble)))
        if unknown:
            raise SettingsError(f"no fault {unknown[0]!r}", fix=f"There are: {', '.join(get_args(Trouble))}.")
        self._script = script
        self._shares = shares
        self._faults = dict(faults or {})
        self._seconds = seconds
        self._asked: dict[str, int] = {}
        self._abilities = Abilities(
            engine="scripted",
            model=name,
            local=True,
            seeds="each",
            log_probabilities=shares is not None,
            score=shares is not None,
            score_words=shares is not None,
            structured=True,
            schema=True,
            in_flight=256,
        )

    @classmethod
    async def open(cls, model: str, serve: ScriptedServe) -> Scripted:
        """The engine of an annotator file whose `serve.answers` names a table."""
        if not serve.answers:
            raise SettingsError(
                "serve.answers names no table",
                where=model,
                fix="Name a Parquet or CSV file with utterance_id and text.",
            )
        table, _ = load_table(Path(serve.answers).expanduser(), ("utterance_id", "text"))
        columns = [name for name in table.columns if name.startswith("p_")]
        if "utterance_id" not in table.columns or not (columns or "text" in table.columns):
            raise InputError(
                "a table of answers needs utterance_id and either text or p_<label> columns", where=serve.answers
            )
        for name in ("utterance_id", *(columns or ["text"])):
            if table[name].null_count():
                row = int(table[name].is_null().arg_true()[0])
                raise InputError(f"column {name}, row {row + 1}: is empty", where=serve.answers, fix="Fill it.")
        if columns:
            rows = {row.pop("utterance_id"): row for row in table.select("utterance_id", *columns).to_dicts()}

            def shares(request: Request) -> Mapping[str, float]:
                row = rows.get(request.utterance_id)
                if row is None:
                    raise _missing(request, serve.answers)
                named = {name.removeprefix("p_"): float(share) for name, share in row.items()}
                if not _fits(named, request):
                    raise _other_labels(named, request, serve.answers)
                return named

            return cls(shares=shares, faults=serve.faults, seconds=serve.seconds, name=model)
        texts: dict[str, list[str]] = {}
        for utterance_id, text in table.select("utterance_id", "text").iter_rows():
            texts.setdefault(utterance_id, []).append(text)

        def script(request: Request, seed: int) -> str:
            if request.utterance_id not in texts:
                raise _missing(request, serve.answers)
            known = texts[request.utterance_id]
            return known[int(generator(seed, "scripted").integers(len(known)))]

        return cls(script=script, faults=serve.faults, seconds=serve.seconds, name=model)

    @property
    def abilities(self) -> Abilities:
        """The abilities: all, although it does not use the audio."""
        return self._abilities

    async def ask(self, request: Request) -> Reply:
        """The scripted reply or a fault, chosen by the request and the number of its tries.

        What the function raises about one recording is a failure of its request.
        """
        started = time.monotonic()
        times = self._asked.get(request.key, 0) + 1
        if self._faults:
            self._asked[request.key] = times
        random = generator(times, "scripted", request.key)
        if self._seconds:
            await asyncio.sleep(self._seconds * math.exp(0.3 * random.standard_normal()))
        uniform = random.random()
        audio = sum(clip.seconds for clip in request.audio)
        words = sum(
            len(part.split()) for turn in request.questions[0].turns for part in turn.parts if isinstance(part, str)
        )
        reply = Reply(request.key, tokens_in=words, audio_seconds=audio, model=self._abilities.model)
        for kind, share in self._faults.items():
            uniform -= share
            if uniform < 0:
                if kind not in MAY_BE_PAID:
                    reply = replace(reply, tokens_in=0, audio_seconds=0.0, paid_tries=0, counted=0)
                return replace(reply, failure=Failure(kind, "as scripted"), latency=time.monotonic() - started)
        try:
            reply = self._answered(request, reply)
        except _TableOfAnswersError:
            raise
        except Exception as error:
            reply = replace(reply, failure=code_failure(error))
        return replace(reply, latency=time.monotonic() - started)

    async def token_counts(self, texts: tuple[str, ...]) -> tuple[int, ...]:
        """Every answer counts as one token."""
        return (1,) * len(texts)

    async def close(self) -> None:
        """Do nothing: there is nothing to close."""

    def _answered(self, request: Request, reply: Reply) -> Reply:
        if request.elicit == "score":
            return replace(reply, log_probabilities=tuple(self._scores(request) for _ in request.questions))
        texts = tuple(self._text(request, seed) for seed in request.seeds)
        return replace(
            reply,
            texts=texts,
            finish=("stop",) * len(texts),
            reasoning=("",) * len(texts),
            tokens_out=sum(len(text.split()) for text in texts),
            seeds_honoured=True,
        )

    def _scores(self, request: Request) -> tuple[float, ...]:
        shares = _in_order(self._shares_of(request), request)
        return tuple(math.log(share) if share > 0 else -math.inf for share in shares)

    def _shares_of(self, request: Request) -> Mapping[str, float]:
        if self._shares is None:
            raise InputError("this scripted annotator has texts only: it cannot score", where=self._abilities.model)
        shares = self._shares(request)
        if isinstance(shares, Mapping) and _fits(shares, request):
            return shares
        raise _wrong(request, "shares", shares, "the share of every label by its name")

    def _text(self, request: Request, seed: int) -> str:
        if self._script is not None:
            answer = self._script(request, seed)
            if isinstance(answer, str):
                return answer
            raise _wrong(request, "script", answer, "text")
        shares = self._shares_of(request)
        if request.elicit == "state":
            return json.dumps(shares)
        weights = np.array(_in_order(shares, request))
        if request.sampling.temperature > 0:
            weights = weights ** (1.0 / request.sampling.temperature)
            drawn = int(generator(seed, "scripted").choice(len(weights), p=weights / weights.sum()))
        else:
            drawn = int(weights.argmax())
        return request.questions[0].choices[drawn] if request.questions[0].choices else list(shares)[drawn]


def _wrong(request: Request, name: str, answer: object, wanted: str) -> InputError:
    """The error for a function that answered something else than it has to."""
    message = f"{name} answered {reprlib.repr(answer)} for {request.utterance_id!r}, not {wanted}"
    return InputError(message, where="a scripted engine", fix="Correct the function.")


def _fits(shares: Mapping[str, float], request: Request) -> bool:
    """Whether the shares are those of the labels asked for, as far as these are known; a statement may be of others."""
    labels = request.questions[0].labels
    return request.elicit == "state" or not labels or set(shares) == set(labels)


def _in_order(shares: Mapping[str, float], request: Request) -> list[float]:
    """The shares in the order of the choices."""
    labels = request.questions[0].labels
    return [shares[label] for label in labels] if labels else list(shares.values())


class _TableOfAnswersError(InputError):
    """A table of answers lacks an utterance or a label: that is about the table, not about one recording."""


def _missing(request: Request, path: str) -> _TableOfAnswersError:
    message = f"has no answer for utterance {request.utterance_id!r}"
    return _TableOfAnswersError(message, where=path, fix="Add a row for it.")


def _other_labels(shares: Mapping[str, float], request: Request, path: str) -> _TableOfAnswersError:
    labels = request.questions[0].labels
    lacking = [label for label in labels if label not in shares]
    surplus = [label for label in shares if label not in labels]
    message = f"has no column p_{lacking[0]}" if lacking else f"has the column p_{surplus[0]}, which is no label here"
    fix = f"Give a p_ column for each of {', '.join(labels)}, and no other."
    return _TableOfAnswersError(message, where=path, fix=fix)
