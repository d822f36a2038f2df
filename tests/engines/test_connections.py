from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import certifi
import httpx
import pytest

from alm_proxies.engines.connections import Connections
from alm_proxies.engines.faults import FaultError

MOST = 1_000_000


class Counting:
    """A server that counts connections and keeps all requests; "hang" gets no response, "bye" closes the connection.

    It repeats a question's number, unless it is `mute`. "twice" is answered twice, "late" once more a moment later.
    """

    def __init__(self):
        self.mute = False
        self.made = 0
        self.open = 0
        self.heads = []
        self.url = ""

    async def serve(self, reader, writer):
        self.made += 1
        self.open += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                self.heads.append(head)
                body = await reader.readexactly(int(head.split("content-length: ")[1].split("\r\n")[0]))
                if body == b"hang":
                    await reader.read()
                    break
                number = head.split("x-request-id: ")[1].split("\r\n")[0] if "x-request-id" in head else ""
                repeats = f"x-request-id: {number}\r\n" if number and not self.mute else ""
                answer = f"HTTP/1.1 200 OK\r\n{repeats}content-length: {len(body)}\r\n\r\n".encode() + body
                writer.write(answer * (2 if body == b"twice" else 1))
                await writer.drain()
                if body == b"late":
                    asyncio.get_running_loop().call_later(0.01, writer.write, answer)
                if "connection: close" in head:
                    await reader.read()
                    break
                if body == b"bye":
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def counting():
    counter = Counting()
    server = await asyncio.start_server(counter.serve, "127.0.0.1", 0)
    counter.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat"
    async with server:
        yield counter
        while counter.open:
            await asyncio.sleep(0)


@asynccontextmanager
async def connected(headers=None):
    connections = Connections(headers or {}, trust_env=False)
    try:
        yield connections
    finally:
        await connections.close()


def test_requests_one_after_the_other_share_a_connection_and_carry_their_headers():
    async def run():
        async with counting() as server, connected({"authorization": "Bearer sesame"}) as connections:
            answers = [await connections.post(server.url, b"%d" % number, 5.0, most=MOST) for number in range(10)]
            assert [answer.content for answer in answers] == [b"%d" % number for number in range(10)]
            assert server.made == 2  # the first answer shows that it repeats numbers
            assert all("\r\nauthorization: bearer sesame\r\n" in head for head in server.heads)
            assert all("\r\nuser-agent: " in head and "\r\nhost: 127.0.0.1:" in head for head in server.heads)

    asyncio.run(run())


def test_requests_at_once_have_a_connection_each_and_those_are_used_again_for_every_server():
    async def run():
        async with counting() as first, counting() as other, connected() as connections:
            await asyncio.gather(*(connections.post(url, b"x", 5.0, most=MOST) for url in (first.url, other.url)))
            for _ in range(5):
                await asyncio.gather(
                    *(connections.post(url, b"x", 5.0, most=MOST) for url in [first.url, other.url] * 8)
                )
            assert (first.made, other.made) == (9, 9)

    asyncio.run(run())


def test_a_request_that_is_given_up_takes_its_connection_with_it_and_no_other():
    async def run():
        async with counting() as server, connected() as connections:
            with pytest.raises(FaultError, match="no complete response within") as caught:
                await connections.post(server.url, b"hang", 0.5, most=MOST)
            assert caught.value.failure.kind == "timeout"
            called_off = asyncio.create_task(connections.post(server.url, b"hang", 5.0, most=MOST))
            while server.made < 2:
                await asyncio.sleep(0)
            called_off.cancel()
            with pytest.raises(asyncio.CancelledError):
                await called_off
            answers = await asyncio.gather(
                *(connections.post(server.url, b"%d" % number, 5.0, most=MOST) for number in range(3))
            )
            assert [answer.content for answer in answers] == [b"0", b"1", b"2"]
            assert server.made == 5
            while server.open > 3:  # it has still to hear that two were given up
                await asyncio.sleep(0)

    asyncio.run(run())


def test_a_connection_that_the_server_closed_while_idle_is_replaced_without_a_fault():
    async def run():
        async with counting() as server, connected() as connections:
            await connections.post(server.url, b"bye", 5.0, most=MOST)
            while server.open:
                await asyncio.sleep(0)
            assert (await connections.post(server.url, b"again", 5.0, most=MOST)).content == b"again"
            assert server.made == 2

    asyncio.run(run())


def test_whenever_a_request_is_called_off_the_next_one_is_answered():
    async def run():
        async with counting() as server, connected() as connections:
            for moments in range(40):
                called_off = asyncio.create_task(connections.post(server.url, b"x" * 300_000, 5.0, most=MOST))
                for _ in range(moments):
                    await asyncio.sleep(0)
                called_off.cancel()
                await asyncio.wait([called_off])
                assert (await connections.post(server.url, b"next", 5.0, most=MOST)).content == b"next"

    asyncio.run(run())


async def until_answered(connections, url, body):
    """The content of the response; requested again after a broken connection, as traffic does."""
    while True:
        with suppress(FaultError):
            return (await connections.post(url, body, 5.0, most=MOST)).content


@pytest.mark.parametrize("mute", [True, False])
@pytest.mark.parametrize("first", [b"twice", b"late"])
@pytest.mark.parametrize("pause", [0.0, 0.005, 0.02])
def test_an_answer_nobody_asked_for_is_never_the_answer_to_the_next_question(first, pause, mute):
    async def run():
        async with counting() as server, connected() as connections:
            server.mute = mute
            for number in range(8):
                assert await until_answered(connections, server.url, first) == first
                await asyncio.sleep(pause)
                assert await until_answered(connections, server.url, b"%d" % number) == b"%d" % number

    asyncio.run(run())


def test_a_server_that_repeats_no_number_gets_a_connection_for_every_question():
    async def run():
        async with counting() as server, connected() as connections:
            server.mute = True
            for _ in range(5):
                await connections.post(server.url, b"x", 5.0, most=MOST)
            assert server.made == 5
            assert all("\r\nconnection: close" in head for head in server.heads)

    asyncio.run(run())


def test_requests_go_through_the_proxy_that_the_environment_names(monkeypatch):
    heads = []

    async def proxy(reader, writer):
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nfar!")
        await writer.drain()
        writer.close()

    async def run():
        async with await asyncio.start_server(proxy, "127.0.0.1", 0) as server:
            monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            connections = Connections({}, trust_env=True)
            try:
                answered = await connections.post("http://far.example/v1/chat", b"x", 5.0, most=MOST)
            finally:
                await connections.close()
            assert answered.content == b"far!"
            assert answered.headers["content-length"] == "4"

    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    asyncio.run(run())
    assert heads[0].startswith("POST http://far.example/v1/chat HTTP/1.1\r\n")


def test_the_address_and_headers_that_a_server_sees_are_those_of_httpx():
    seen = []

    async def listen(reader, writer):
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\nx-a: 1\r\nX-A: 2\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async def run():
        async with await asyncio.start_server(listen, "127.0.0.1", 0) as server, connected({"a": "b"}) as connections:
            address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat%20x?y=1"
            answered = await connections.get(address, 5.0, most=MOST)
            assert (answered.content, answered.headers["x-a"]) == (b"abc", "1, 2")
            async with httpx.AsyncClient(trust_env=False) as client:
                await client.get(address, headers={"a": "b", "user-agent": "alm-proxies", "connection": "close"})

    asyncio.run(run())
    first, other = (dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if line) for head in seen)
    assert seen[0].split(b"\r\n")[0] == seen[1].split(b"\r\n")[0]
    assert other.pop(b"accept-encoding")
    assert first == other


def test_certificates_are_read_once_and_anew_when_their_file_has_changed(tmp_path, monkeypatch):
    end = "-----END CERTIFICATE-----\n"
    certificates = Path(certifi.where()).read_text().split(end)
    file = tmp_path / "certificates.pem"
    monkeypatch.setenv("SSL_CERT_FILE", str(file))

    def read():
        return Connections({}, trust_env=True)._verify

    file.write_text(end.join([*certificates[:3], ""]))
    first, same = read(), read()
    file.write_text(end.join([*certificates[:2], ""]))
    assert first is same
    assert (len(first.get_ca_certs()), len(read().get_ca_certs())) == (3, 2)


def test_a_tls_connection_that_fails_is_no_lack_of_trust_where_the_server_has_answered_before_and_costs_nothing():
    async def serve(reader, writer):
        plain = (await reader.read(65536)).startswith(b"POST")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n" if plain else b"HTTP/1.1 400 Bad\r\n\r\n")
        await writer.drain()
        writer.close()

    async def asked():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            place = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            connections, kinds, paid = Connections({}, trust_env=False), [], []
            for scheme in ("https", "http", "https"):  # the server speaks no TLS
                try:
                    await connections.post(f"{scheme}://{place}/", b"well", 5.0, most=MOST, kept=False)
                    kinds.append("answered")
                except FaultError as fault:
                    kinds.append(fault.failure.kind)
                    paid.append(fault.paid)
            await connections.close()
            return kinds, paid

    assert asyncio.run(asked()) == (["no_trust", "answered", "reset"], [False, False])


@pytest.mark.parametrize("proxied", [False, True])
def test_a_request_without_an_answer_costs_nothing_unless_it_was_sent(monkeypatch, proxied):
    async def serve(reader, writer):  # neither a proxy's tunnel nor a server goes on to TLS
        with suppress(asyncio.IncompleteReadError):
            if (await reader.readexactly(7)) == b"CONNECT":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 Connected\r\n\r\n")
            await reader.read()
        writer.close()

    async def paid(connections, address):
        with pytest.raises(FaultError) as raised:
            await connections.post(address, b"x", 0.5, most=MOST)
        return raised.value.failure.kind, raised.value.paid

    async def run():
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            here = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
            for name in ("HTTP_PROXY", "HTTPS_PROXY"):
                monkeypatch.setenv(name, f"http://{here}")
            connections = Connections({}, trust_env=proxied)
            host = "far.example" if proxied else here
            found = [await paid(connections, f"{scheme}://{host}/v1/chat") for scheme in ("https", "http")]
            await connections.close()
            return found

    monkeypatch.delenv("REQUEST_METHOD", raising=False)
    assert asyncio.run(run()) == [("timeout", False), ("timeout", True)]
