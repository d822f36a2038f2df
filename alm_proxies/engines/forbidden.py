"""HTTP 403, which may be about one clip (a filter before the model) or about the key."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from alm_proxies.engines.engine import Failure, Reply
from alm_proxies.printable import counted

_ENOUGH = 8
"""Utterances that are refused without an answer between them, after which the key is taken to be refused."""


@dataclass(slots=True)
class Forbidden:
    """The utterances that a server has refused with 403 since its last answer."""

    utterances: set[str] = field(default_factory=set)

    def judged(self, reply: Reply, utterance_id: str) -> Reply:
        """The reply as it is, or as one to a key that is not accepted, which ends the run."""
        if reply.failure is None:
            self.utterances.clear()
        elif reply.failure.kind == "forbidden":
            self.utterances.add(utterance_id)
            if len(self.utterances) >= _ENOUGH:
                utterances = counted(len(self.utterances), "utterance")
                message = f"requests about {utterances} were refused one after another ({reply.failure.message})"
                return replace(reply, failure=Failure("unauthorised", message))
        return reply
