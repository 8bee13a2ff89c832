"""What has happened to a pod in which a command was cut off: from its status, its conditions and its events.

Sources: the Kubernetes API (core/v1 PodStatus, ContainerState, Event); its docs "Pod Lifecycle", "Disruptions" (the
condition DisruptionTarget and its reasons), "Node-pressure Eviction".
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from app.deployments.kubernetes import Cluster
from app.deployments.kubernetes_pods import ends, ready, state
from app.deployments.site import Fate
from app.errors import DeploymentError, DeploymentRefused

#: How often it is looked until anything shows: what ends a container is told some time later.
_LOOKS = 3
_PAUSE_SECONDS = 1
_DISRUPTED = {
    "PreemptionByScheduler": "for a pod of higher priority",
    "DeletionByTaintManager": "since its node has a taint now, as one has that is lost",
    "EvictionByEvictionAPI": "by an eviction, as when its node is drained",
    "DeletionByPodGC": "since its node is gone",
    "TerminationByKubelet": "by its node's kubelet",
}
#: Reasons of events that tell why a pod has ended. `Killing` is told when there is no other.
_TELLING = {
    "Evicted", "Preempted", "Preempting", "TaintManagerEviction", "NodeNotReady", "NodeShutdown", "OOMKilling",
    "ExceededGracePeriod", "SystemOOM", "FailedKillPod", "Killing",
}  # fmt: skip
_MOST_TEXT = 200


async def fate(cluster: Cluster, was: Any, container: str) -> Fate:
    """`was`: the pod as it was when it was chosen. Raises nothing."""
    namespace, name = was.metadata.namespace, was.metadata.name
    now = None
    try:
        for look in range(_LOOKS):
            if look:
                await asyncio.sleep(_PAUSE_SECONDS)
            now = await cluster.pod(namespace, name)
            if (told := change(was, now, container)) is not None:
                break
    except DeploymentRefused as error:
        return Fate(f"what has happened to pod {namespace}/{name} cannot be told ({error.message})", ended=False)
    except DeploymentError as error:
        told = f"the cluster does not tell what has happened to pod {namespace}/{name} ({error.message})"
        return Fate(told, ended=False)
    if told is None:
        return Fate(
            f"pod {namespace}/{name} is there and was not restarted: what leads to it broke, as when the API server "
            "or its node's kubelet is restarted",
            ended=False,
        )
    why = ""
    with suppress(DeploymentError):  # the right to read them is optional
        why = "; ".join(recorded(await cluster.events(namespace, was.metadata.uid)))
    return Fate(f"{told}: {why}" if why else told, ended=True)


def change(was: Any, now: Any, container: str) -> str | None:
    """How a pod differs from what it was when it was chosen; None: in nothing that ends a command. `now`: what has
    its name, None: nothing."""
    pod = f"pod {was.metadata.namespace}/{was.metadata.name}"
    if now is None or now.metadata.uid != was.metadata.uid:
        return f"{pod} was deleted"
    status, why = now.status, _disrupted(now)
    if status.reason == "Evicted" or (status.phase == "Failed" and why):
        return _with(f"{pod} was evicted", why or status.message)
    if status.phase in ("Failed", "Succeeded"):
        return _with(f"{pod} has ended ({status.reason or status.phase})", status.message)
    if (restarted := _restarted(was, now, container, pod)) is not None:
        return restarted
    if ends(now):
        return _with(f"{pod} is being deleted", why)
    if status.reason == "NodeLost" or (ready(was) and not ready(now)):
        node = f"its node, {now.spec.node_name}, may be lost"
        return _with(f"{pod} is not ready any more, {node}", f"{state(now)}")
    return None


def _restarted(was: Any, now: Any, container: str, pod: str) -> str | None:
    before, after = _status(was, container), _status(now, container)
    if after is None:
        return None
    ended = (after.state and after.state.terminated) or None
    if ended is None and before is not None and after.restart_count > before.restart_count:
        ended = (after.last_state and after.last_state.terminated) or None
        if ended is None:
            return f"container {container} of {pod} was restarted"
    if ended is None:
        return None
    if ended.reason == "OOMKilled":
        return f"container {container} of {pod} was OOMKilled: look at its memory limit"
    return f"container {container} of {pod} has ended ({ended.reason or 'no reason'}, status {ended.exit_code})"


def _status(pod: Any, container: str) -> Any:
    every = [*(pod.status.container_statuses or []), *(pod.status.init_container_statuses or [])]
    return next((one for one in every if one.name == container), None)


def _disrupted(pod: Any) -> str | None:
    for condition in pod.status.conditions or []:
        if condition.type == "DisruptionTarget" and condition.status == "True":
            return str(_DISRUPTED.get(condition.reason, condition.reason))
    return None


def recorded(events: list[Any]) -> list[str]:
    """What the last events say of why a pod has ended, two at most."""
    told = sorted((event for event in events if event.reason in _TELLING), key=_moment)
    better = [event for event in told if event.reason != "Killing"] or told
    return list(dict.fromkeys(_short(f"{event.reason}, {event.message or ''}") for event in better[-2:]))


def _moment(event: Any) -> datetime:
    found: datetime | None = event.last_timestamp or event.event_time or event.first_timestamp
    return found or datetime.min.replace(tzinfo=UTC)


def _with(told: str, why: str | None) -> str:
    return _short(f"{told} ({why})" if why else told)


def _short(text: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in text[:_MOST_TEXT]).strip(" ,")
