import io

import pytest

from alm_proxies.progress import Progress


def test_the_time_left_is_reckoned_from_what_was_counted_and_not_from_the_wait_before_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [1000.0]
    monkeypatch.setattr("alm_proxies.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress("annotating", total=1000, stream=stream) as bar:
        now[0] += 600.0  # a server is tried out
        for _ in range(10):
            now[0] += 1.0
            bar.advance(10)
    assert stream.getvalue().splitlines() == [
        "annotating: 10/1000 after 601 s",
        "annotating: 60/1000 after 606 s, about 94 s left",
        "annotating: 100/1000 after 610 s, about 90 s left (done)",
    ]
