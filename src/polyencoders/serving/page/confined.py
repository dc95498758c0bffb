"""What of Gradio can be reached: its page, the files of it, and the calls of the page's own functions.

Gradio brings much besides: uploads, files by path, a proxy, a queue with streams that stay open, its own API. What the
page does not use is not there. The browser is told to load nothing from elsewhere. Plain ASGI.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from starlette.exceptions import HTTPException

from polyencoders.serving.gate import App, Message, Receive, Scope, Send

_CALL = "POST /gradio_api/run/predict"
_USED = re.compile(rf"GET /(?:|config|theme\.css|favicon\.ico|(?:assets|static)/[\w./-]+)|HEAD /|{_CALL}")

_POLICY = "; ".join(
    (
        "default-src 'self'",
        "script-src 'self' 'unsafe-inline' 'unsafe-eval'",  # Gradio's own
        "style-src 'self' 'unsafe-inline'",
        "img-src 'self' data:",
        "font-src 'self' data:",
        "connect-src 'self'",
        "object-src 'none'",
        "base-uri 'self'",
        "form-action 'self'",
        "frame-ancestors 'self'",
    )
)
_HEADERS = [
    (b"content-security-policy", _POLICY.encode()),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
]


class Confined:
    """ASGI middleware around Gradio's application.

    Parameters
    ----------
    app
        Gradio's.
    inputs
        By the number of each of the page's functions, how many inputs it takes. Gradio prints what does not fit,
        others' texts included, to the log.
    """

    def __init__(self, app: App, inputs: Mapping[int, int]) -> None:
        self.app, self._inputs = app, inputs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        asked = f"{scope['method']} {scope['path']}" if scope["type"] == "http" else ""
        if not _USED.fullmatch(asked):
            raise HTTPException(404, "not served here")
        if asked == _CALL:
            body = await receive()  # the gate gives it whole
            self._check_call(body.get("body", b""))
            receive = _again(body, receive)

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        await self.app(scope, receive, told)

    def _check_call(self, body: bytes) -> None:
        try:
            call = json.loads(body)
            if len(call["data"]) == self._inputs[call["fn_index"]]:
                return
        except (ValueError, KeyError, TypeError):
            pass
        raise HTTPException(422, "this is no call of the page's")


def _again(first: Message, receive: Receive) -> Receive:
    """The same, beginning with a message that was received already."""
    left = [first]

    async def replay() -> Message:
        return left.pop() if left else await receive()

    return replay
