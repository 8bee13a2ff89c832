"""From a domain's deployment setting to the deployment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.deployments.base import Deployment
from app.deployments.standalone import StandaloneDeployment
from app.errors import InvalidRequest


class DeploymentRegistry:
    def __init__(self) -> None:
        self._standalone = StandaloneDeployment()

    def build(self, config: Mapping[str, Any]) -> Deployment:
        """Raises InvalidRequest for a type that is not supported."""
        kind = config.get("type", "auto")
        if kind in ("auto", "standalone"):
            return self._standalone
        raise InvalidRequest(f"Deployment type {kind!r} is not supported", field="deployment")
