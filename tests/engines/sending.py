"""Traffic to servers that wait little, and requests sent over it at once."""

from __future__ import annotations

import asyncio

from alm_proxies.engines.traffic import Traffic


def traffic(*addresses, in_flight=64, tries=3, **more):
    more = {"first_wait": 0.001, "longest_wait": 0.01, "try_seconds": 5.0} | more
    return Traffic(addresses or ("one",), in_flight=in_flight, tries=tries, **more)


async def send_all(road, one_try, count, seconds=20.0):
    return await asyncio.gather(*(road.send(one_try, seconds=seconds) for _ in range(count)), return_exceptions=True)


async def well(address, seconds):
    await asyncio.sleep(0)
    return address
