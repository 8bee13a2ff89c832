"""Each error class has a code of its own and an HTTP status."""

from __future__ import annotations

import httpx
from fastapi import FastAPI

from app import errors
from app.api.problems import install, status_of
from app.db.session import OutageError


def leaves(cls: type[errors.LiberuError]) -> list[type[errors.LiberuError]]:
    """Of the tree; a module's own private kind of an error is told as the one that it is a kind of."""
    children = [child for child in cls.__subclasses__() if child.__module__ == errors.__name__]
    return [cls] if not children else [leaf for child in children for leaf in leaves(child)]


def test_every_leaf_has_a_status_and_its_own_code() -> None:
    found = leaves(errors.LiberuError)
    made = [cls("x", 1, "") if cls is errors.CommandFailed else cls("x") for cls in found]
    assert all(status_of(error) != 500 for error in made)
    codes = [cls.code for cls in found]
    assert len(set(codes)) == len(codes)
    assert all("code" in vars(cls) for cls in found)


def test_the_tree_in_the_docstring_is_whole() -> None:
    assert errors.__doc__ is not None
    for name, value in vars(errors).items():
        if isinstance(value, type) and issubclass(value, errors.LiberuError):
            assert name in errors.__doc__


async def test_a_database_that_is_away_is_told_from_a_mistake() -> None:
    app = FastAPI()
    install(app)

    @app.get("/away")
    async def away() -> None:
        raise OutageError("gone")

    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
        answer = await client.get("/away")
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert answer.headers["retry-after"] == "5"
