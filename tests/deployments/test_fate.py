"""What people are told of a pod in which a command was cut off."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from app.deployments import kubernetes_fate
from app.deployments.kubernetes import Cluster
from app.deployments.kubernetes_fate import fate
from demo.kubernetes_double import ClusterDouble, Pod, cluster_double

WEB = Pod("shop", "web-1", {}, {"php": Path("/nowhere")}, uid="uid-1")
DISRUPTED = {"type": "DisruptionTarget", "status": "True"}
CASES: dict[str, tuple[Pod | None, list[tuple[str, str]], str]] = {
    "deleted": (None, [("Scheduled", "to node-1"), ("Killing", "Stopping container php")],
                "pod shop/web-1 was deleted: Killing, Stopping container php"),
    "another took its name": (replace(WEB, uid="uid-2"), [], "pod shop/web-1 was deleted"),
    "better reasons come first": (
        None, [("NodeNotReady", "Node is not ready"), ("Killing", "Stopping container php")],
        "pod shop/web-1 was deleted: NodeNotReady, Node is not ready"),
    "evicted": (replace(WEB, phase="Failed", reason="Evicted", message="The node was low on resource: memory. "), [],
                "pod shop/web-1 was evicted (The node was low on resource: memory. )"),
    "drained": (replace(WEB, deleted=True, conditions=[{**DISRUPTED, "reason": "EvictionByEvictionAPI"}]), [],
                "pod shop/web-1 is being deleted (by an eviction, as when its node is drained)"),
    "preempted": (
        replace(WEB, phase="Failed", conditions=[{**DISRUPTED, "reason": "PreemptionByScheduler"}]),
        [("Preempted", "Preempted by pod big on node node-1")],
        "pod shop/web-1 was evicted (for a pod of higher priority): Preempted, Preempted by pod big on node node-1"),
    "its node is lost": (
        replace(WEB, deleted=True, conditions=[{**DISRUPTED, "reason": "DeletionByTaintManager"}]), [],
        "pod shop/web-1 is being deleted (since its node has a taint now, as one has that is lost)"),
    "its node is silent": (
        replace(WEB, ready=False), [],
        "pod shop/web-1 is not ready any more, its node, node-1, may be lost (web-1 is Running and not ready)"),
    "out of memory": (replace(WEB, restarts=1, ended={"reason": "OOMKilled", "exitCode": 137}), [],
                      "container php of pod shop/web-1 was OOMKilled: look at its memory limit"),
    "crashed": (replace(WEB, restarts=1, ended={"reason": "Error", "exitCode": 139}), [],
                "container php of pod shop/web-1 has ended (Error, status 139)"),
}  # fmt: skip


@pytest.fixture(scope="module")
def cluster() -> Iterator[ClusterDouble]:
    with cluster_double() as started:
        yield started


@pytest.fixture
async def reached(cluster: ClusterDouble) -> AsyncGenerator[Cluster, None]:
    found = Cluster(cluster.kubeconfig())
    yield found
    await found.close()
    cluster.denied.clear()
    cluster.away = None


async def chosen(cluster: ClusterDouble, reached: Cluster) -> Any:
    """The pod as it was, which had been restarted before."""
    cluster.pods[:] = [WEB]
    return await reached.pod("shop", "web-1")


@pytest.mark.parametrize("case", CASES)
async def test_what_has_happened_is_told(cluster: ClusterDouble, reached: Cluster, case: str) -> None:
    now, events, told = CASES[case]
    was = await chosen(cluster, reached)
    cluster.pods[:] = [] if now is None else [now]
    cluster.events[:] = [("uid-1", *event) for event in events] + [("uid-2", "Evicted", "another pod's")]
    found = await fate(reached, was, "php")
    assert (found.told, found.ended) == (told, True)
    cluster.denied.add("list events")
    assert told.startswith((await fate(reached, was, "php")).told)


async def test_a_pod_that_is_as_it_was_was_not_ended(
    cluster: ClusterDouble, reached: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes_fate, "_PAUSE_SECONDS", 0)
    was = await chosen(cluster, reached)
    found = await fate(reached, was, "php")
    assert ("was not restarted" in found.told, found.ended) == (True, False)
    cluster.denied.add("list pods")
    assert "denies `list on pods`" in (await fate(reached, was, "php")).told
    cluster.away = "api"
    assert "does not tell" in (await fate(reached, was, "php")).told
