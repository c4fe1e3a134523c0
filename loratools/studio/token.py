"""The secrets of one start of the server: a token for the address, a cookie that it is exchanged for, keys of ids."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Secrets:
    """What nobody but this server and the page that it opened knows; new at every start, kept in memory alone.

    Attributes:
        token: 256 bits, url-safe; part of the address behind ``#``, so that browsers send it to nobody.
        key: of the ids of files; see :meth:`id_of`.
    """

    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32), repr=False)

    @property
    def cookie(self) -> str:
        """The value of the cookie that a page gets for the token."""
        return _text(hmac.digest(self.token.encode(), b"cookie", hashlib.sha256))

    def is_token(self, text: str) -> bool:
        """Whether ``text`` is the token, compared in constant time."""
        return hmac.compare_digest(text.encode(), self.token.encode())

    def is_cookie(self, text: str) -> bool:
        """Whether ``text`` is the cookie's value, compared in constant time."""
        return hmac.compare_digest(text.encode(), self.cookie.encode())

    def id_of(self, text: str) -> str:
        """16 bytes of an HMAC of ``text``, url-safe: nobody makes an id of a path without the key."""
        return _text(hmac.digest(self.key, text.encode("utf-8", "surrogatepass"), hashlib.sha256)[:16])


def cookie_name(port: int) -> str:
    """Cookies are shared between the ports of a host, so that two servers need two names."""
    return f"loratools-{port}"


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
