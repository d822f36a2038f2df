from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest

from alm_proxies.engines.connections import Connections
from alm_proxies.engines.traffic import FaultError


class Counting:
    """A server that counts its connections and keeps what it was sent; "hang" is never answered, "bye" hangs up."""

    def __init__(self):
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
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
                await writer.drain()
                if body == b"bye":
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            self.open -= 1
            writer.close()


@asynccontextmanager
async def counting():
    found = Counting()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/chat"
    async with server:
        yield found
        while found.open:
            await asyncio.sleep(0)


@asynccontextmanager
async def connected(headers=None):
    made = Connections(headers or {}, trust_env=False)
    try:
        yield made
    finally:
        await made.close()


def test_requests_one_after_the_other_share_a_connection_and_carry_their_headers():
    async def run():
        async with counting() as server, connected({"authorization": "Bearer sesame"}) as connections:
            answers = [await connections.post(server.url, b"%d" % number, 5.0) for number in range(10)]
            assert [answer.content for answer in answers] == [b"%d" % number for number in range(10)]
            assert server.made == 1
            assert all("\r\nauthorization: bearer sesame\r\n" in head for head in server.heads)
            assert all("\r\nuser-agent: " in head and "\r\nhost: 127.0.0.1:" in head for head in server.heads)

    asyncio.run(run())


def test_requests_at_once_have_a_connection_each_and_those_are_used_again_for_every_server():
    async def run():
        async with counting() as one, counting() as other, connected() as connections:
            for _ in range(5):
                await asyncio.gather(*(connections.post(url, b"x", 5.0) for url in [one.url, other.url] * 8))
            assert (one.made, other.made) == (8, 8)

    asyncio.run(run())


def test_a_request_that_is_given_up_takes_its_connection_with_it_and_no_other():
    async def run():
        async with counting() as server, connected() as connections:
            with pytest.raises(FaultError, match="no answer within") as caught:
                await connections.post(server.url, b"hang", 0.05)
            assert caught.value.failure.kind == "timeout"
            called_off = asyncio.create_task(connections.post(server.url, b"hang", 5.0))
            while server.made < 2:
                await asyncio.sleep(0)
            called_off.cancel()
            with pytest.raises(asyncio.CancelledError):
                await called_off
            answers = await asyncio.gather(*(connections.post(server.url, b"%d" % number, 5.0) for number in range(3)))
            assert [answer.content for answer in answers] == [b"0", b"1", b"2"]
            assert server.made == 5
            while server.open > 3:  # it has still to hear that two were given up
                await asyncio.sleep(0)

    asyncio.run(run())


def test_a_connection_that_the_server_closed_while_idle_is_replaced_without_a_fault():
    async def run():
        async with counting() as server, connected() as connections:
            await connections.post(server.url, b"bye", 5.0)
            while server.open:
                await asyncio.sleep(0)
            assert (await connections.post(server.url, b"again", 5.0)).content == b"again"
            assert server.made == 2

    asyncio.run(run())


def test_whenever_a_request_is_called_off_the_next_one_is_answered():
    async def run():
        async with counting() as server, connected() as connections:
            for moments in range(40):
                called_off = asyncio.create_task(connections.post(server.url, b"x" * 300_000, 5.0))
                for _ in range(moments):
                    await asyncio.sleep(0)
                called_off.cancel()
                await asyncio.wait([called_off])
                assert (await connections.post(server.url, b"next", 5.0)).content == b"next"

    asyncio.run(run())
