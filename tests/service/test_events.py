"""An operation's event stream: taken up again after a break, at another process, with the ticket that is used up."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx

from demo.service import Service
from tests.service.cluster import Cluster, backup, cluster, server

__all__ = ["cluster", "server"]  # fixtures


@contextmanager
def opened(member: Service, path: str, **headers: str) -> Iterator[Iterator[dict[str, Any]]]:
    """Events as a browser's EventSource reads them."""
    with member.client() as client:
        client.headers.pop("Authorization")
        with client.stream("GET", path, headers=headers) as response:
            if response.status_code != 200:
                raise httpx.HTTPStatusError(str(response.status_code), request=response.request, response=response)
            yield _events(response.iter_lines())


def _events(lines: Iterator[str]) -> Iterator[dict[str, Any]]:
    event: dict[str, Any] = {}
    for line in lines:
        name, _, value = line.partition(": ")
        if line == "" and "data" in event:
            yield event
            event = {}
        elif name == "data":
            event["data"] = json.loads(value)
        elif name:
            event[name] = value


def test_a_stream_is_taken_up_again_at_another_process(cluster: Cluster) -> None:
    first, second, third = cluster.members
    destination = cluster.destination()
    operation = backup(first, cluster.site(), destination)
    other = backup(second, cluster.site("other.example.com", size=1000), destination)
    ticket = first.call("POST", f"/api/operations/{operation['id']}/ticket", 201)["ticket"]
    path = f"/api/operations/{operation['id']}/events?ticket={ticket}"
    with opened(first, path) as events:
        last = next(event for event in events if event["data"]["bytes_done"] > 0)
    with opened(second, path, **{"Last-Event-ID": last["id"]}) as events:
        following = next(events)
    assert following["data"]["bytes_done"] >= last["data"]["bytes_done"]
    assert following["id"] != last["id"], "what was seen is not sent again"
    first.kill()
    with opened(third, path, **{"Last-Event-ID": following["id"]}) as events:
        *_, end = events
    assert (end["event"], end["data"]["status"]) == ("ended", "completed")
    with opened(second, path, **{"Last-Event-ID": end["id"]}) as events:
        assert [event["event"] for event in events] == ["ended"], "whoever missed the end still hears of it"
    for wrong in ({}, {"Last-Event-ID": end["id"] + "x"}, {"Last-Event-ID": end["id"].partition(".")[0]}):
        assert _refused(second, path, **wrong) == 401, "the ticket alone is used up"
    elsewhere = f"/api/operations/{other['id']}/events?ticket={ticket}"
    assert _refused(second, elsewhere, **{"Last-Event-ID": end["id"]}) == 401, "good for one operation only"


def _refused(member: Service, path: str, **headers: str) -> int:
    try:
        with opened(member, path, **headers):
            return 200
    except httpx.HTTPStatusError as error:
        return error.response.status_code
