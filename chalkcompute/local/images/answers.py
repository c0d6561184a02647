"""Failures as the OCI Distribution Specification words them."""

from __future__ import annotations

from aiohttp import web

__all__ = ["RefusedError", "error_response"]


class RefusedError(Exception):
    """A request that fails.

    Attributes:
        status: HTTP status code.
        code: Code of the specification (`MANIFEST_UNKNOWN`).
        message: For people.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, code: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers or {}


def error_response(failure: RefusedError) -> web.Response:
    """Its answer."""
    body = {"errors": [{"code": failure.code, "message": failure.message}]}
    return web.json_response(body, status=failure.status, headers=failure.headers)
