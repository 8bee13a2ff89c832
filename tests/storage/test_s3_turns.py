"""A limit of requests is no refusal: fewer at once, and patience, from the first answer on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from botocore.exceptions import ClientError

from app.errors import DestinationUnreachable, StorageError
from app.storage.base import Options
from app.storage.config import S3Configuration
from app.storage.s3_client import S3Client
from app.storage.s3_turns import Turns


def refusal(code: str, status: int) -> ClientError:
    answer: Any = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")


@pytest.mark.parametrize(("code", "status"), [("SlowDown", 503), ("TooManyRequests", 429), ("429", 429)])
async def test_a_limit_is_waited_for_even_at_the_first_request(code: str, status: int) -> None:
    client = S3Client(S3Configuration(key="k", bucket="bucket"), Options(resume_seconds=20))
    answers = [refusal(code, status), refusal(code, status)]

    async def work(_: Any) -> str:
        if answers:
            raise answers.pop()
        return "done"

    assert await client.call("Writing", work) == "done"
    assert client.turns.limit < 9, "halved twice"
    await client.close()


@pytest.mark.parametrize(("code", "status"), [("503", 503), ("ServiceUnavailable", 503), ("NotImplemented", 501)])
async def test_what_answers_nothing_else_is_not_waited_for(code: str, status: int) -> None:
    client = S3Client(S3Configuration(key="k", bucket="bucket"), Options(resume_seconds=600))

    async def work(_: Any) -> str:
        raise refusal(code, status)

    with pytest.raises(StorageError) as raised:
        await client.call("Writing", work)
    assert isinstance(raised.value, DestinationUnreachable) == (status == 503)
    await client.close()


async def test_never_more_at_once_than_the_limit_and_never_none() -> None:
    turns = Turns(8)
    most = under_way = 0

    async def request() -> None:
        nonlocal most, under_way
        async with turns.one():
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0)
            under_way -= 1

    await asyncio.gather(*(request() for _ in range(50)))
    assert most == 8
    for _ in range(5):
        turns.too_many(8)
    assert turns.limit == 4, "those that began together count once"
    for _ in range(5):
        turns.too_many(turns.limit)
    most = 0
    await asyncio.gather(*(request() for _ in range(50)))
    assert (turns.limit, most) == (1, 1)
    for _ in range(200):
        turns.went_well()
    assert turns.limit == 8


async def test_who_is_cancelled_while_it_waits_holds_no_turn() -> None:
    turns = Turns(1)

    async def request() -> None:
        async with turns.one():
            pass

    async with turns.one():
        waiting = asyncio.create_task(request())
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    await asyncio.wait_for(request(), 10)
