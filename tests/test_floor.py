import io
import pickle

import pytest

from alm_proxies.audio.clip import RecordingError
from alm_proxies.errors import AlmProxiesError, EngineError, InputError, OutputError, OutputPathError, TableError
from alm_proxies.progress import Progress
from alm_proxies.seeds import generator, seed_of


def test_seeds_depend_on_every_name_and_on_their_boundaries() -> None:
    seeds = [
        seed_of(1, "a", "b"),
        seed_of(1, "ab"),
        seed_of(2, "a", "b"),
        seed_of(1, "b", "a"),
        seed_of(1, 1),
        seed_of(1, "1"),
        seed_of(1, "a\x1fstr:b"),
        seed_of(1, "a\x1b_str:b"),
        seed_of(1, "a\x1b", "b"),
    ]
    assert len(set(seeds)) == len(seeds)
    assert seed_of(7, "listeners", "sim/0001") == 5345306850223043864
    assert generator(1, "a").integers(1000) == generator(1, "a").integers(1000)


def test_an_error_says_where_what_and_next_in_one_line() -> None:
    error = InputError("is empty", where="a.csv", fix="Fill it.")
    assert str(error) == "a.csv: is empty. Fill it."
    assert str(EngineError("it stopped")) == "it stopped."


def test_an_error_comes_back_whole_from_another_process() -> None:
    back = pickle.loads(pickle.dumps(TableError("is empty", where="a.csv", fix="Fill it.")))
    assert (type(back), str(back), back.fix) == (TableError, "a.csv: is empty. Fill it.", "Fill it.")
    odd = pickle.loads(pickle.dumps(RecordingError("silent", "is silent", where="a.wav", fix="Take another.")))
    assert (odd.kind, str(odd)) == ("silent", "a.wav: is silent. Take another.")


@pytest.mark.parametrize(("kind", "code"), [(InputError, 2), (OutputError, 3), (OutputPathError, 2), (EngineError, 3)])
def test_every_error_knows_the_exit_code(kind: type[AlmProxiesError], code: int) -> None:
    assert kind.exit_code == code


def test_progress_is_silent_when_short_and_says_when_it_was_stopped() -> None:
    stream = io.StringIO()
    with Progress("reading", 2, stream=stream) as progress:
        progress.advance(2)
    assert stream.getvalue() == ""
    with pytest.raises(RuntimeError), Progress("reading", 2, stream=stream) as progress:
        progress.advance()
        raise RuntimeError
    assert stream.getvalue() == "reading: 1/2 after 0 s (stopped)\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress_on_a_terminal_shows_names_as_they_are() -> None:
    stream = Terminal()
    with Progress("asking [/model]", 3, stream=stream) as progress:
        progress.advance(note="[bold] [/sad]")
        progress.advance(2)
    assert "asking [/model]" in stream.getvalue()
    assert "[bold] [/sad]" in stream.getvalue()
    assert "3/3" in stream.getvalue()


class NotebookStream(io.StringIO):
    """A stream like that of Jupyter: not a terminal, but a carriage return overwrites the line."""

    __module__ = "ipykernel.iostream"


def test_progress_in_a_notebook_is_one_line_that_overwrites_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("alm_proxies.progress._SECONDS_BETWEEN_REWRITES", 0.0)
    stream = NotebookStream()
    with Progress("reading", 2, stream=stream) as progress:
        progress.advance(note="a long note")
        progress.advance(note="short")
    before, *lines = stream.getvalue().rstrip("\n").split("\r")
    assert before == ""
    assert len(lines) == 3
    assert "\n" not in "".join(lines)
    assert lines[-1].rstrip() == "reading: 2/2 after 0 s (short, done)"
    assert len(lines[-1]) == len(lines[0])
