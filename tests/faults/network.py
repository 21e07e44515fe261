"""A network between workers and a broker that can be cut, slow, or lose packets."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress

import pytest

_CHUNK = 2**16


class Proxy:
    """Passes TCP connections on; both ends believe that they speak with each other."""

    def __init__(self, target: int) -> None:
        self._target = target
        self.delay_s = 0.0
        """How long everything that clients send is under way."""
        self.whole = asyncio.Event()
        """Cleared, nothing passes in either direction, and nobody is told."""
        self.whole.set()
        self._connections: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, until either end closes it."""
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self.whole.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
            ways = (self._pass(reader, back, slow=True), self._pass(there, writer, slow=False))
            tasks = [asyncio.create_task(way) for way in ways]
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for way in tasks:
                way.cancel()
            back.close()
        except OSError:
            pass
        finally:
            writer.close()
            self._connections.discard(task)

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, slow: bool
    ) -> None:
        loop = asyncio.get_running_loop()
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def deliver() -> None:
            while True:
                due, data = await under_way.get()
                await asyncio.sleep(max(0.0, due - loop.time()))
                await self.whole.wait()
                writer.write(data)
                await writer.drain()

        delivering = asyncio.create_task(deliver())
        try:
            with suppress(OSError):
                while data := await reader.read(_CHUNK):
                    under_way.put_nowait((loop.time() + (self.delay_s if slow else 0.0), data))
        finally:
            delivering.cancel()

    def close(self) -> None:
        """End all connections."""
        for task in self._connections:
            task.cancel()


@asynccontextmanager
async def proxied(port: int, target: int) -> AsyncIterator[Proxy]:
    """A proxy that listens on *port* of 127.0.0.1 and passes on to *target*."""
    proxy = Proxy(target)
    server = await asyncio.start_server(proxy.accept, "127.0.0.1", port)
    try:
        yield proxy
    finally:
        server.close()
        proxy.close()


@contextmanager
def losing_packets(port: int, one_in: int) -> Iterator[None]:
    """The kernel drops one of *one_in* packets to or from *port* meanwhile; skips if it may not."""
    drop = f"numgen random mod {one_in} == 0 drop"
    table = f"""
table inet anabranch_faults {{
  chain lost {{
    type filter hook input priority 0
    tcp dport {port} {drop}
    tcp sport {port} {drop}
  }}
}}
"""
    if shutil.which("nft") is None:
        pytest.skip("losing packets needs nft (Debian's nftables)")
    done = subprocess.run(
        ["nft", "-f", "-"], input=table, text=True, capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"losing packets needs the rights of root: {done.stderr.strip()[:200]}")
    try:
        yield
    finally:
        subprocess.run(["nft", "delete", "table", "inet", "anabranch_faults"], check=True)
