"""How the server listens."""

import asyncio
import socket

import pytest

pytest.importorskip("uvicorn", reason="needs polyencoders[serve]")

from polyencoders.serving.run import bound
from polyencoders.serving.settings import Settings


def test_answers_are_not_held_back():
    """Small packets leave at once: with Nagle's algorithm on, a second packet waits for an acknowledgement."""

    async def option_of_a_connection():
        told = asyncio.get_running_loop().create_future()

        class Telling(asyncio.Protocol):
            def connection_made(self, transport):
                told.set_result(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
                transport.close()

        at = bound(Settings(port=0))
        server = await asyncio.get_running_loop().create_server(Telling, sock=at)
        _, writer = await asyncio.open_connection(*at.getsockname())
        writer.close()
        async with server:
            return await told

    assert asyncio.run(option_of_a_connection())


def test_it_listens_on_the_loopback_unless_told_otherwise():
    with bound(Settings(port=0)) as at:
        assert at.getsockname()[0] == "127.0.0.1"


def test_an_address_that_is_taken_is_named():
    with bound(Settings(port=0)) as at:
        at.listen()
        port = at.getsockname()[1]
        with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}"):
            bound(Settings(port=port))
