"""What of Gradio can be reached: its page, the files of it, and the calls of the page's own functions.

Gradio brings much besides: uploads, files by path, a proxy, a queue with streams that stay open, its own API. What the
page does not use is not there. The browser is told to load nothing from elsewhere. Plain ASGI.
"""

from __future__ import annotations

import re

from starlette.exceptions import HTTPException

from polyencoders.serving.gate import App, Message, Receive, Scope, Send

_USED = re.compile(
    r"GET /(?:|config|theme\.css|favicon\.ico|(?:assets|static)/[\w./-]+)|HEAD /|POST /gradio_api/run/predict"
)

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
    """ASGI middleware around Gradio's application."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _USED.fullmatch(f"{scope['method']} {scope['path']}"):
            raise HTTPException(404, "not served here")

        async def told(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *_HEADERS]}
            await send(message)

        await self.app(scope, receive, told)
