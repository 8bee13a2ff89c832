"""What of a namespace's objects is kept, and what of that is made again.

Pure: of objects as the API has them. Sources: the Kubernetes API reference; Pod Security Standards (Baseline).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from app.deployments.kubernetes_objects import KINDS, Document, ObjectKind

BY_NAME = {kind.name: kind for kind in KINDS}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:@-]{0,252}")
_VERSION = re.compile(r"v[0-9]{1,3}((alpha|beta)[0-9]{1,3})?")
#: Annotations that tell what a cluster did.
_SERVERS = (
    "kubectl.kubernetes.io/last-applied-configuration", "deployment.kubernetes.io/",
    "deprecated.daemonset.template.generation", "pv.kubernetes.io/", "volume.kubernetes.io/",
    "volume.beta.kubernetes.io/storage-provisioner", "control-plane.alpha.kubernetes.io/",
    "autoscaling.alpha.kubernetes.io/",
)  # fmt: skip
#: ConfigMaps that a cluster puts into every namespace.
_EVERYWHERE = ("kube-root-ca.crt", "openshift-service-ca.crt", "istio-ca-root-cert")
_TOKEN = "kubernetes.io/service-account-token"  # noqa: S105
#: Capabilities that Baseline lets a container add.
_BASELINE = frozenset({
    "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "NET_BIND_SERVICE", "SETFCAP",
    "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT",
})  # fmt: skip


def kept(found: Document) -> bool:
    """Not what a controller, or the cluster itself, makes, nor what is being deleted."""
    metadata = found["metadata"]
    if metadata.get("deletionTimestamp") or any(
        one.get("controller") for one in metadata.get("ownerReferences") or []
    ):
        return False
    if found["kind"] == "ServiceAccount" and metadata["name"] == "default":
        return bool(stripped(found).keys() - {"apiVersion", "kind", "metadata"})
    if found["kind"] == "ConfigMap":
        return metadata["name"] not in _EVERYWHERE
    return bool(found["kind"] != "Secret" or found.get("type") != _TOKEN)


def stripped(found: Document) -> Document:
    """Without what a server has added: state, identity, and what binds it to this one cluster. References to objects
    that own it go, too: another cluster's collector would take it for an orphan."""
    metadata = found["metadata"]
    own = {key: metadata[key] for key in ("name", "namespace", "labels", "annotations") if metadata.get(key)}
    if annotations := {k: v for k, v in own.pop("annotations", {}).items() if not k.startswith(_SERVERS)}:
        own["annotations"] = annotations
    rest = {key: value for key, value in found.items() if key not in ("apiVersion", "kind", "metadata", "status")}
    made = {"apiVersion": found["apiVersion"], "kind": found["kind"], "metadata": own, **deepcopy(rest)}
    spec = _dict(made.get("spec"))
    if made["kind"] == "Service":
        _strip_service(spec)
    elif made["kind"] == "PersistentVolumeClaim":
        for key in ("volumeName", "dataSource", "dataSourceRef"):
            spec.pop(key, None)
    elif made["kind"] == "ServiceAccount":
        made.pop("secrets", None)
    for template in _templates(made):
        if isinstance(about := template.get("metadata"), dict) and about.get("creationTimestamp", 0) is None:
            del about["creationTimestamp"]
    return made


def _strip_service(spec: Document) -> None:
    for key in ("clusterIPs", "healthCheckNodePort"):
        spec.pop(key, None)
    if spec.get("clusterIP") != "None":
        spec.pop("clusterIP", None)
    if spec.get("ipFamilyPolicy") == "SingleStack":  # of the cluster's own family
        spec.pop("ipFamilies", None)
    if spec.get("type") == "LoadBalancer":  # of NodePort they are what is connected to
        for port in _dicts(spec.get("ports")):
            port.pop("nodePort", None)


def malformed(document: Any) -> str | None:
    """Why something in an archive is no object of ours, whoever wrote it."""
    if not isinstance(document, dict):
        return "it is no object"
    kind = BY_NAME.get(str(document.get("kind")))
    if kind is None:
        return f"its kind is none that is backed up: {str(document.get('kind'))[:100]!r}"
    group, _, version = str(document.get("apiVersion")).rpartition("/")
    if group != kind.group or not _VERSION.fullmatch(version):
        return f"{kind.name} is not of {str(document.get('apiVersion'))[:100]!r}"
    metadata = document.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
        return f"a {kind.name} has no name"
    if not _NAME.fullmatch(metadata["name"]):
        return f"a {kind.name} has an impossible name: {metadata['name'][:100]!r}"
    if any(not isinstance(metadata.get(key) or {}, dict) for key in ("labels", "annotations")):
        return f"{kind.name} {metadata['name']} has malformed metadata"
    return None


def moved(document: Document, namespace: str) -> Document:
    """Stripped, in another namespace: what it names of its own one is in that one. Only what is not `refused`."""
    made = stripped(document)
    if made["kind"] == "RoleBinding":
        for subject in _dicts(made.get("subjects")):
            subject["namespace"] = namespace
    made["metadata"]["namespace"] = namespace
    return made


def refused(document: Document) -> str | None:
    """Why an object is not made again: it would give more than its own namespace, by the rights of this service."""
    kind = document["kind"]
    if kind == "RoleBinding":
        return _binds_more(document)
    if kind == "Secret" and document.get("type") == _TOKEN:
        return "a service account's token is the cluster's to give"
    if kind == "Service" and _dict(document.get("spec")).get("externalIPs"):
        return "its externalIPs take what others are sent"
    for template in _templates(document):
        if (found := _reaches(_dict(template.get("spec")))) is not None:
            return f"its pods would reach beyond their namespace: {found}"
    return None


def _binds_more(document: Document) -> str | None:
    role = _dict(document.get("roleRef"))
    if role.get("kind") != "Role" or not isinstance(role.get("name"), str):
        return "it binds no Role: what a ClusterRole gives is not this namespace's to say"
    home, subjects = document["metadata"].get("namespace"), document.get("subjects") or []
    for subject in subjects if isinstance(subjects, list) else [None]:
        about = _dict(subject)
        if about.get("kind") != "ServiceAccount" or home is None or about.get("namespace") != home:
            return "it gives rights to somebody who is no service account of its own namespace"
    return None


def _reaches(pod: Document) -> str | None:
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if pod.get(key):
            return key
    if _host_process(pod):
        return "hostProcess"
    if pod.get("nodeName"):  # no scheduler, and no taint, would be asked
        return "nodeName"
    if any("hostPath" in volume for volume in _dicts(pod.get("volumes"))):
        return "hostPath"
    for name in ("containers", "initContainers", "ephemeralContainers"):
        for container in _dicts(pod.get(name)):
            context = _dict(container.get("securityContext"))
            if context.get("privileged") or _host_process(container):
                return "privileged"
            if context.get("procMount") not in (None, "Default"):
                return "procMount"
            added = _dict(context.get("capabilities")).get("add") or []
            if not isinstance(added, list) or any(str(one).upper() not in _BASELINE for one in added):
                return "capabilities"
            if any(port.get("hostPort") for port in _dicts(container.get("ports"))):
                return "hostPort"
    return None


def _host_process(of: Document) -> bool:
    """Of Windows."""
    return bool(_dict(_dict(of.get("securityContext")).get("windowsOptions")).get("hostProcess"))


def _templates(document: Document) -> Iterator[Document]:
    """Of pods: a workload's own, a CronJob's jobs'."""
    spec = _dict(document.get("spec"))
    for holder in (spec, _dict(_dict(spec.get("jobTemplate")).get("spec"))):
        if isinstance(holder.get("template"), dict):
            yield holder["template"]


def _dict(value: Any) -> Document:
    return value if isinstance(value, dict) else {}


def _dicts(value: Any) -> list[Document]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def kind_of(document: Document) -> ObjectKind:
    return BY_NAME[document["kind"]]


def title(document: Document) -> str:
    return f"{document['kind']} {document['metadata']['name']}"
