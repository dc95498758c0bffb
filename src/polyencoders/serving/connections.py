"""uvicorn's HTTP protocol with a time limit for everything that only the client can do.

A client has so long to send headers, to read an answer, and to stop sending. `limits.py` limits the time of a body.
"""

import asyncio
import logging
import socket
from typing import Any, cast

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

logger = logging.getLogger("polyencoders.serving")

CONNECTIONS = 512
"""Open at once: half of the files that a process may usually open. Beyond, the connection that has been idle longest is
closed; if all are in use, the new one gets 503."""
HEADER_SECONDS = 10.0
"""Seconds for a request's headers from its first byte (on a new connection, from its start), and for the rest of a body
that is no longer wanted."""
READ_SECONDS = 30.0  # Seconds for a client to read 64 kB of an answer, or the rest of it
LINGER_SECONDS = 2.0
"""Seconds for a client that is still sending to read that it was refused. A connection closed at once would be reset,
and the answer lost."""
PROBE_SECONDS = 0.25  # Seconds between checks whether a client that stopped sending has gone
_WORTH = 65_536
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


class PromptProtocol(H11Protocol):
    """A connection that is closed when its client takes too long."""

    _arriving: asyncio.TimerHandle | None = None
    """Runs while the rest of a request that is not being answered is missing."""
    _leaving: asyncio.TimerHandle | None = None  # Runs while the client does not read what it was sent
    _probing: asyncio.TimerHandle | None = None
    _unread = 0
    _half_closed = False
    silent_since = 0.0  # When the last request ended

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock; close another connection if there are too many."""
        # `pause_writing` is called whenever anything is not taken at once; at 0, TLS would call it for nothing.
        transport.set_write_buffer_limits(high=1)
        super().connection_made(cast(asyncio.Transport, LingeringTransport(transport, self)))
        self.silent_since = self.loop.time()
        self._keep_time()
        self._make_room()

    def data_received(self, data: bytes) -> None:
        """Read on, unless the connection is only kept for the client to read that it was refused."""
        if self.transport.is_closing():
            return
        super().data_received(data)
        self._keep_time()

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Answer the request of a client that stops sending; close the connection if there is none."""
        waits = self.waits_for_answer and not self.cycle.more_body
        if self.transport.is_closing() or not waits or self.transport.get_extra_info("ssl_object") is not None:
            return None  # by TLS nobody stops only sending
        self._half_closed = True
        self._probe()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        for clock in (self._arriving, self._leaving, self._probing):
            if clock is not None:
                clock.cancel()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of a body that is not wanted."""
        super().on_response_complete()
        self.silent_since = self.loop.time()
        if self._half_closed and not self.waits_for_answer:
            self.transport.close()
        self._keep_time()

    def send_400_response(self, msg: str) -> None:
        """Answer that this is not HTTP, unless an answer has begun."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            super().send_400_response(msg)
        else:
            self.transport.close()

    def shutdown(self) -> None:
        """Close the connection once the request in progress is answered."""
        if self.transport.is_closing() or self.conn.our_state is h11.ERROR:
            self.transport.abort()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Start the clock for what the client has not read."""
        super().pause_writing()
        self._unread = self.transport.get_write_buffer_size()
        self._leaving = self.loop.call_later(READ_SECONDS, self._still_unread)

    def resume_writing(self) -> None:
        """Stop that clock."""
        super().resume_writing()
        if self._leaving is not None:
            self._leaving.cancel()
            self._leaving = None

    @property
    def waits_for_answer(self) -> bool:
        """Whether a request is in progress."""
        return self.cycle is not None and not self.cycle.response_complete

    @property
    def sends(self) -> bool:
        """Whether the client may be in the middle of sending."""
        return self.conn.their_state in (h11.SEND_BODY, h11.ERROR)

    def _keep_time(self) -> None:
        """Run the clock from a request's first byte until its headers are complete."""
        begun = self.conn.their_state is not h11.IDLE or bool(self.conn.trailing_data[0])
        if self.waits_for_answer or self.transport.is_closing() or (self.cycle is not None and not begun):
            if self._arriving is not None:
                self._arriving.cancel()
                self._arriving = None
            if self.timeout_keep_alive_task is None and not (self.waits_for_answer or self.transport.is_closing()):
                after = self.timeout_keep_alive
                self.timeout_keep_alive_task = self.loop.call_later(after, self.timeout_keep_alive_handler)
        elif self._arriving is None:
            self._arriving = self.loop.call_later(HEADER_SECONDS, self.transport.abort)

    def _still_unread(self) -> None:
        left = self.transport.get_write_buffer_size()
        if self._unread - left < _WORTH:
            self.transport.abort()
            return
        self._unread = left
        self._leaving = self.loop.call_later(READ_SECONDS, self._still_unread)

    def _probe(self) -> None:
        """Find out whether a client that stopped sending has closed its connection: send `100 Continue`, which every
        client of HTTP/1.1 skips. If it has gone, its system answers so."""
        if self.scope["http_version"] == "1.1" and not self.cycle.response_started:
            self.transport.write(self.conn.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        self._look()

    def _look(self) -> None:
        if not self.waits_for_answer or self.transport.is_closing():
            return
        if self.transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self.transport.abort()
            return
        self._probing = self.loop.call_later(PROBE_SECONDS, self._look)

    def _make_room(self) -> None:
        # When many connect at once, closed connections may still be listed.
        others = [one for one in cast(set[PromptProtocol], self.connections) if one is not self]
        others = [one for one in others if not cast(LingeringTransport, one.transport).gone]
        if len(others) < CONNECTIONS:
            return
        silent = [one for one in others if not one.waits_for_answer]
        if silent:
            min(silent, key=lambda one: one.silent_since).transport.abort()
            return
        logger.warning("%d connections are in use: another was refused", len(others))
        self.transport.write(_FULL)
        self.transport.close()


class LingeringTransport:
    """A transport whose `close` lets a client that is still sending read the answer first."""

    def __init__(self, transport: asyncio.Transport, protocol: PromptProtocol) -> None:
        self._transport, self._protocol = transport, protocol
        self._lingers = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    @property
    def gone(self) -> bool:
        """Whether it is closed."""
        return self._transport.is_closing()

    def is_closing(self) -> bool:
        """Whether it is closed or closing."""
        return self._lingers or self.gone

    def close(self) -> None:
        """Close, after the client has had time to read the answer."""
        if self.is_closing():
            return
        if not self._protocol.sends or not self._transport.can_write_eof():
            self._transport.close()
            return
        self._lingers = True
        self._transport.write_eof()
        self._transport.resume_reading()  # what comes is discarded
        self._protocol.loop.call_later(LINGER_SECONDS, self._transport.abort)
