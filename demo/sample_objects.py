"""A site's namespace as a tenant's operator has made it: for the cluster double and its tests."""

from __future__ import annotations

from typing import Any

from demo.kubernetes_objects import Document, ObjectsDouble

_POD: dict[str, Any] = {
    "metadata": {"labels": {"app": "web"}, "creationTimestamp": None},
    "spec": {
        "serviceAccountName": "site",
        "containers": [{"name": "web", "image": "nginx:1", "envFrom": [{"secretRef": {"name": "database"}}]}],
        "volumes": [{"name": "site", "persistentVolumeClaim": {"claimName": "site"}}],
    },
}  # fmt: skip
_TRAPS = "yes\nno: {a: b}\n  \u2028 12:30 'x' \"y\"\t \\ 0o7\r\nа́ 💾\n\n"


def workload(name: str = "web", kind: str = "Deployment") -> Document:
    spec = {"replicas": 2, "selector": {"matchLabels": {"app": "web"}}, "template": _POD}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "labels": {"app": "web"}}, "spec": spec}


def binding(name: str, role: Any, kind: str = "Role", namespace: str | None = "shop") -> Document:
    subject = {"kind": "ServiceAccount", "name": "site"} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role}, "subjects": [subject],
    }  # fmt: skip


def objects() -> list[tuple[str, Document]]:
    """By plural, one of nearly every kind, with what clusters add to them and what YAML's parsers fall over."""
    role = {"metadata": {"name": "site"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    path = {
        "path": "/", "pathType": "Prefix", "backend": {"service": {"name": "web", "port": {"number": 80}}},
    }  # fmt: skip
    ports = [{"port": 80, "nodePort": 30080, "protocol": "TCP"}]
    scale = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}
    last = {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "y"}
    return [
        ("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "site"}}),
        ("serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}}),
        ("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "site", "annotations": last},
                        "data": {"traps": _TRAPS, "y": "n", "1e3": "1e3", "null": "null", "<<": "~", "on": "0x1"}}),
        ("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "kube-root-ca.crt"},
                        "data": {"ca.crt": "of this cluster"}}),
        ("secrets", {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": "database"},
                     "data": {"password": "c2VjcmV0LWNhbmFyeQ=="}}),
        ("secrets", {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/service-account-token",
                     "metadata": {"name": "token"}, "data": {"token": "dG9rZW4="}}),
        ("persistentvolumeclaims", {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "site"},
                                    "spec": claim}),
        ("roles", {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", **role}),
        ("rolebindings", binding("site", "site")),
        ("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"},
                      "spec": {"type": "NodePort", "selector": {"app": "web"}, "ports": ports}}),
        ("services", {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "peers"},
                      "spec": {"clusterIP": "None", "selector": {"app": "web"}}}),
        ("networkpolicies", {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
                             "metadata": {"name": "site"}, "spec": {"podSelector": {}}}),
        ("deployments", workload()),
        ("cronjobs", {"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "wp-cron"},
                      "spec": {"schedule": "*/5 * * * *", "jobTemplate": {"spec": {"template": _POD}}}}),
        ("horizontalpodautoscalers", {"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                                      "metadata": {"name": "web"},
                                      "spec": {"scaleTargetRef": scale, "maxReplicas": 3}}),
        ("poddisruptionbudgets", {"apiVersion": "policy/v1", "kind": "PodDisruptionBudget",
                                  "metadata": {"name": "web"}, "spec": {"maxUnavailable": "50%"}}),
        ("ingresses", {"apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "web"},
                       "spec": {"rules": [{"host": "shop.example.com", "http": {"paths": [path]}}]}}),
    ]  # fmt: skip


def make_namespace(double: ObjectsDouble, namespace: str) -> None:
    for plural, document in objects():
        double.make(namespace, plural, document)
    owned = workload("of-an-operator")
    owned["metadata"]["ownerReferences"] = [
        {"apiVersion": "example.com/v1", "kind": "Site", "name": "shop", "uid": "1", "controller": True}
    ]
    double.make(namespace, "deployments", owned)


def empty(double: ObjectsDouble, namespace: str) -> None:
    """As a namespace is that was deleted and made again."""
    for key in [key for key in double.found if key[0] == namespace]:
        del double.found[key]
        double.owners.pop(key, None)
    double.make(namespace, "serviceaccounts", objects()[1][1])
    double.make(namespace, "configmaps", objects()[3][1])
