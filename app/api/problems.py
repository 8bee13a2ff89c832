"""From an error's class to its HTTP status, only here, and to problem details (RFC 9457)."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app import errors
from app.db.session import is_outage
from app.schemas.common import Problem
from app.storage.config import CONFIGURATIONS

log = logging.getLogger(__name__)
MEDIA_TYPE = "application/problem+json"
_PROBLEM = "#/components/schemas/Problem"

#: The nearest class in an error's ancestry decides.
STATUS: dict[type[errors.LiberuError], int] = {
    errors.InvalidRequest: 422,
    errors.NotFound: 404,
    errors.Unauthenticated: 401,
    errors.Forbidden: 403,
    errors.RateLimited: 429,
    errors.TooLarge: 413,
    errors.UploadsFull: 507,
    errors.AuditBroken: 409,
    errors.Conflict: 409,
    errors.StorageError: 502,
    errors.ObjectNotFound: 404,
    errors.DestinationInvalid: 409,
    errors.DestinationNotPrepared: 409,
    errors.HostKeyMismatch: 409,
    errors.CertificateInvalid: 409,
    errors.NoSpace: 507,
    errors.NoPast: 409,
    errors.ObjectLocked: 409,
    errors.ArchiveError: 409,
    errors.ForeignArchiveError: 422,
    errors.DeploymentError: 502,
    errors.ComponentError: 502,
    errors.NotificationError: 502,
    errors.JobError: 409,
}

TITLES = {
    401: "Unauthenticated", 403: "Forbidden", 404: "Not found", 405: "Method not allowed", 409: "Conflict",
    413: "Too large", 422: "Invalid request", 429: "Too many requests",
    500: "Internal error", 502: "Upstream error", 503: "Unavailable", 507: "No space",
}  # fmt: skip


def status_of(error: errors.LiberuError) -> int:
    for cls in type(error).__mro__:
        if cls in STATUS:
            return STATUS[cls]
    return 500


def _respond(request: Request, status: int, detail: str, code: str, **extra: Any) -> JSONResponse:
    problem = Problem(
        title=TITLES.get(status, "Error"),
        status=status,
        detail=detail,
        code=code,
        request_id=getattr(request.state, "request_id", None),
        **extra,
    )
    headers = {401: {"WWW-Authenticate": "Bearer"}, 429: {"Retry-After": "60"}, 503: {"Retry-After": "5"}}.get(status)
    return JSONResponse(problem.model_dump(exclude_none=True), status, headers, MEDIA_TYPE)


def _documented(app: FastAPI) -> None:
    """Errors are problem details in the schema as well: FastAPI knows one media type for all answers of a route."""
    make = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema, shared = make(), dict[str, Any]()
            for operations in schema["paths"].values():
                for operation in operations.values():
                    for status, response in operation["responses"].items():
                        if int(status) >= 400 and "application/json" in response.get("content", {}):
                            name = TITLES[int(status)].title().replace(" ", "")
                            content = {MEDIA_TYPE: {"schema": {"$ref": _PROBLEM}}}
                            shared[name] = {"description": TITLES[int(status)], "content": content}
                            operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
            for unused in ("HTTPValidationError", "ValidationError"):
                schema["components"]["schemas"].pop(unused, None)
            schema["components"]["responses"] = shared
        return app.openapi_schema or {}

    app.openapi = openapi  # type: ignore[method-assign]


def install(app: FastAPI) -> None:
    """Every error becomes problem details; what is unexpected says nothing but its request id."""
    _documented(app)

    @app.exception_handler(errors.LiberuError)
    async def ours(request: Request, error: errors.LiberuError) -> JSONResponse:
        status = status_of(error)
        fields = {error.field or "request": [error.message]} if status == 422 else None
        return _respond(request, status, error.message, error.code, retryable=error.retryable, errors=fields)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> JSONResponse:
        fields: dict[str, list[str]] = {}
        for item in error.errors():
            where = [str(part) for part in item["loc"] if part not in ("body", "query", "path")]
            if where[0:1] and where[0] in CONFIGURATIONS:  # which member of a union was meant is no field
                where = where[1:]
            fields.setdefault(".".join(where) or "request", []).append(str(item["msg"]))
        return _respond(request, 422, "Some fields are not valid", "validation_failed", errors=fields)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code == 400:  # FastAPI's for a body that is no text
            fields = {"body": ["is not JSON in UTF-8"]}
            return _respond(request, 422, "The body is not valid", "validation_failed", errors=fields)
        return _respond(request, error.status_code, str(error.detail), "http_error")

    @app.exception_handler(Exception)
    async def unexpected(request: Request, error: Exception) -> JSONResponse:
        if is_outage(error):
            log.warning("The database cannot be used: %s", type(error).__name__)
            detail = "The database cannot be reached or has no room. Try again later"
            return _respond(request, 503, detail, "database_unavailable", retryable=True)
        log.error("Unexpected error", exc_info=error)
        return _respond(request, 500, "An internal error; the log names this request", "internal_error")
