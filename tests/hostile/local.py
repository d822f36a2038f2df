"""Cases without a server: those of files, prompts, settings, addresses, models, environment, signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from local_files import BROKEN, DAMAGED, IRREGULAR, ITEMS, OUTPUTS, utterances_in
from local_work import Case, command, refused

from alm_proxies.annotators.annotator import Annotator
from alm_proxies.annotators.prompts import read_prompt
from alm_proxies.engines.registry import open_engine, serve_settings
from alm_proxies.errors import SettingsError
from alm_proxies.uris import is_loopback

# prompts

TEMPLATES = {
    "range": "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "lipsum": "{{ lipsum(100000000) }}",
    "multiplied": "{{ 'x' * 10000000000 }}",
    "power": "{{ 10 ** 10 ** 10 }}",
    "formatted": "{{ '%10000000000d' % 1 }}",
    "format filter": "{{ '%10000000000d'|format(1) }}",
    "center": "{{ 'x'|center(10000000000) }}",
    "indent": "{{ choices|indent(1000000000, true) }}",
    "replace": "{{ choices" + "|replace('a', 'aaaaaaaaaaaaaaaaaaaa')" * 12 + " }}",
    "method": "{{ 'x'.ljust(10000000000) }}",
    "doubling": "{% set a = 'xx' %}" + "{% set a = a ~ a %}" * 60 + "{{ a }}",
    "doubling by a list": "{% set a = 'xx' %}" + "{% set a = [a, a]|join %}" * 60 + "{{ a }}",
    "set block": "{% set a %}x{% endset %}" + "{% set a %}{{ a }}{{ a }}{% endset %}" * 60 + "{{ a }}",
    "macro": "{% macro m(n) %}{{ m(n) }}{{ m(n) }}{% endmacro %}{{ m(3) }}",
    "recursive loop": "{% for x in labels recursive %}{{ loop(labels) }}{% endfor %}",
    "letters of the choices": "{% for a in choices %}" * 9 + "{% endfor %}" * 9,
    "labels of labels": "{% for a in labels %}" * 9 + "{% endfor %}" * 9,
    "renamed": "{% set labels = choices %}{% for a in labels %}{% endfor %}",
    "class": "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "namespace": "{% set n = namespace(a='x') %}{{ n.a }}",
    "cycler": "{{ cycler('a').next() }}",
    "include": "{% include '/etc/passwd' %}",
    "import": "{% import 'os' as os %}",
    "parentheses": "{{ " + "(" * 20_000 + "1" + ")" * 20_000 + " }}",
    "nots": "{{ " + "not " * 5000 + "1 }}",
    "ifs": "{% if 1 %}" * 3000 + "{% endif %}" * 3000,
    "2 MB": "x" * 2_000_000,
    "a list of numbers": "{{ " + "[" * 5000 + "]" * 5000 + " }}",
    "digits": "{{ " + "9" * 6000 + " }}",
    "call block": "{% call x() %}{% endcall %}",
    "filter block": "{% filter upper %}x{% endfilter %}",
}


def prompted(text: str, folder: Path) -> None:
    path = folder / "mine.toml"
    path.write_text('elicits = "label"\nafter = """{{ choices }}' + text + '"""\n', encoding="utf-8")
    refused(lambda: read_prompt(path), "mine.toml", kind=SettingsError)


PROMPTS: dict[str, Case] = {name: partial(prompted, text) for name, text in TEMPLATES.items()}

# settings and addresses

NUMBERS = ("inf", "-inf", "nan", "1e400", "9" * 26, "9" * 5000, "-1", "1e308")
FIELDS: tuple[str, ...] = (
    "votes",
    "sampling.max_tokens",
    "sampling.top_k",
    "sampling.repetition_penalty",
    "cross.label_orders",
)
FIELDS += ("price.million_tokens_in", "serve.try_seconds", "serve.tries", "serve.in_flight", "cross.temperature")
_MAY_BE = {("sampling.top_k", "-1")}


def annotator_file(field: str, number: str, folder: Path) -> None:
    section, _, key = field.rpartition(".")
    value = f"[{number}]" if key == "temperature" else number
    line = f"{key} = {value}"
    own = f'name = "a"\nengine = "openai"\nmodel = "m"\n{"" if section else line}\n{f"[{section}]{chr(10)}{line}" if section else ""}\n'
    (folder / "a.toml").write_text(own, encoding="utf-8")
    refused(lambda: Annotator.read(folder / "a.toml"), "a.toml", kind=SettingsError)


def flagged(flag: str, number: str, folder: Path) -> None:
    table = utterances_in(folder)
    command(
        ["annotate", str(table), "--annotator", "embedded", "-o", str(folder / "out"), flag, number], flag.strip("-")
    )


ADDRESSES = (
    "", "x", "ftp://h/v1", "http://", "http:///v1", "http://h:99999/v1", "http://h:-1/v1", "http://h:0/v1", "http://h:x/v1",
    "http://h:8000:8000/v1", "http://a\r\nb/v1", "http://h/v1\r\nx: y", "http://h /v1", "http://[::1/v1", "http://u:p@h/v1",
    "http://h/v1?key=1", "http://h/v1#x", "http://a..b/v1", "http://" + "a" * 64 + "/v1", "http://" + "a." * 200 + "/v1",
    "http://h\x00/v1", "http://\u202eh/v1", "file:///etc/passwd", "unix:///tmp/x", "http://h%00/v1", "http://münchen/v1",
)  # fmt: skip
LOOPBACK = {
    "http://127.0.0.1:8000/v1": True, "http://127.0.0.2/v1": True, "http://127.255.255.254/v1": True,
    "http://localhost/v1": True, "http://LOCALHOST/v1": True, "http://[::1]/v1": True, "http://0.0.0.0/v1": False,
    "http://128.0.0.1/v1": False, "http://localhost.example.com/v1": False, "http://127.0.0.1.example.com/v1": False,
    "http://2130706433/v1": False, "http://127.1/v1": False, "http://[::2]/v1": False, "http://10.0.0.1/v1": False,
    "http://notlocalhost/v1": False, "http://[fe80::1]/v1": False,
}  # fmt: skip


def addressed(address: str, _: Path) -> None:
    refused(lambda: serve_settings("openai", {"base_urls": [address]}, where="a.toml"), "serve.base_urls")


def judged(address: str, local: bool, _: Path) -> None:
    assert is_loopback(address) == local


SETTINGS: dict[str, Case] = {
    **{
        f"{field} = {number:.20}": partial(annotator_file, field, number)
        for field in FIELDS
        for number in NUMBERS
        if (field, number) not in _MAY_BE
    },
    **{
        f"{flag} {number:.20}": partial(flagged, flag, number)
        for flag in ("--seed", "--votes", "--budget", "--limit", "--max-minutes")
        for number in ("inf", "nan", "9" * 26, "9" * 5000, "1e400", "x")
    },
    **{f"address {address!r:.40}": partial(addressed, address) for address in ADDRESSES},
    **{f"loopback {address}": partial(judged, address, local) for address, local in LOOPBACK.items()},
}


# environment


@contextlib.contextmanager
def environment(**changes: str) -> Iterator[None]:
    before = dict(os.environ)
    for name in ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        os.environ.pop(name, None)
        os.environ.pop(name.lower(), None)
    os.environ.update(changes)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def opened(url: str, names: tuple[str, ...], variables: dict[str, str], _: Path) -> None:
    async def work() -> None:
        serve = serve_settings("openai", {"base_urls": [url], "tries": 1, "try_seconds": 1.0})
        await (await open_engine("m", serve)).close()

    with environment(**variables):
        refused(lambda: asyncio.run(work()), *names)


def against(secure: bool, url: str, names: tuple[str, ...], folder: Path) -> None:
    """The address of a server with TLS and a certificate of its own, or of one without, asked the wrong way."""
    key, certificate = folder / "key", folder / "certificate"
    command_line = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    subprocess.run([*command_line, "-keyout", str(key), "-out", str(certificate)], check=True, capture_output=True)
    context = None
    if secure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
    ports: list[int] = []
    ready, loop = threading.Event(), asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            await reader.read(1000)
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
            await writer.drain()
        writer.close()

    async def finish() -> None:
        waiting = asyncio.all_tasks() - {asyncio.current_task()}
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        await asyncio.sleep(0.05)  # transports close in the loop's next rounds

    def work() -> None:
        server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0, ssl=context))
        ports.append(server.sockets[0].getsockname()[1])
        ready.set()
        loop.run_forever()
        server.close()
        loop.run_until_complete(finish())
        loop.close()

    loop.set_exception_handler(lambda *_: None)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    ready.wait(10)
    try:
        opened(url.format(ports[0]), names, {}, folder)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


FAR = "http://192.0.2.1/v1"
ENVIRONMENT: dict[str, Case] = {
    "a SOCKS proxy": partial(opened, FAR, ("ALL_PROXY", "httpx[socks]"), {"ALL_PROXY": "socks5://127.0.0.1:1"}),
    "a proxy with a bad port": partial(opened, FAR, ("HTTP_PROXY",), {"HTTP_PROXY": "http://127.0.0.1:port"}),
    "a proxy of another kind": partial(opened, FAR, ("https_proxy",), {"https_proxy": "ftp://127.0.0.1:1"}),
    "a proxy that is away": partial(opened, FAR, ("HTTP_PROXY",), {"HTTP_PROXY": "http://u:secret@127.0.0.1:1"}),
    "no certificates": partial(opened, "https://192.0.2.1/v1", ("SSL_CERT_FILE",), {"SSL_CERT_FILE": "/none.pem"}),
    "certificates without end": partial(
        opened, "https://192.0.2.1/v1", ("SSL_CERT_FILE",), {"SSL_CERT_FILE": "/dev/zero"}
    ),
    "certificates that are none": partial(
        opened, "https://192.0.2.1/v1", ("SSL_CERT_FILE",), {"SSL_CERT_FILE": __file__}
    ),
    "a self-signed certificate": partial(against, True, "https://localhost:{}/v1", ("self-signed", "SSL_CERT_FILE")),
    "https against http": partial(against, False, "https://127.0.0.1:{}/v1", ("TLS", "http://")),
    "http against https": partial(against, True, "http://127.0.0.1:{}/v1", ("https://",)),
    "nobody listens": partial(opened, "http://127.0.0.1:1/v1", ("no server answers",), {}),
    "no such name": partial(opened, "http://none.invalid/v1", ("name",), {}),
}


# signals

PROGRAM = """
from alm_proxies.cli import start
install = start._Interruption.install
def installed(self):
    install(self)
    print("ready", flush=True)
start._Interruption.install = installed
start.main()
"""


def signalled(number: signal.Signals, after: float, folder: Path) -> None:
    arguments = ["simulate", "-o", str(folder / "sim"), "--utterances", "3000"]
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    child.stdout.readline()
    time.sleep(after)
    child.send_signal(number)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, out) == (130, ""), err
    assert err.count("Interrupted. Finished work is kept") == 1, err
    assert "Traceback" not in err, err


SIGNALS: dict[str, Case] = {
    f"{number.name} after {after:g} s": partial(signalled, number, after)
    for number in (signal.SIGINT, signal.SIGTERM)
    for after in (0.0, 0.003, 0.01, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.7, 0.9, 1.2, 1.6, 2.0, 2.5)
}
CLASSES = {
    "recordings broken off": BROKEN,
    "recordings damaged": DAMAGED,
    "files that are none": IRREGULAR,
    "one bad item": ITEMS,
    "outputs": OUTPUTS,
    "prompts": PROMPTS,
    "settings and addresses": SETTINGS,
    "environment": ENVIRONMENT,
    "signals": SIGNALS,
}
