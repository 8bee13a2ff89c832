"""The attacked service is a real one, in its own process."""

from __future__ import annotations

from tests.service.conftest import domain, folder, service, site

__all__ = ["domain", "folder", "service", "site"]
