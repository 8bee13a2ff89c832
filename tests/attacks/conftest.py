"""The service as a user runs it, and a site."""

from __future__ import annotations

from tests.service.conftest import domain, folder, service, site

__all__ = ["domain", "folder", "service", "site"]
