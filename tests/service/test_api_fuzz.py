"""The whole API against its own description: no internal error, and every answer as documented."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.main import create_app
from demo.service import Service

CONFORMANCE = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance,
]  # fmt: skip


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("fuzz")
    made = Service(
        folder,
        LIBERU_SERVER__USER_REQUESTS_PER_MINUTE="0",
        LIBERU_SERVER__FAILURES_PER_MINUTE="0",
        LIBERU_IMPORTS__FOLDER=str(folder),
        LIBERU_STORAGE__RESUME_SECONDS="0",
    )
    made.start()
    root = folder / "site"
    root.mkdir()
    (root / "index.html").write_text("x")
    domain = made.call(
        "POST", "/api/domains", 201,
        json={"domain_name": "shop.example.com", "user_id": 7, "document_root": str(root)},
    )  # fmt: skip
    made.backup(domain)
    yield made
    made.call("GET", "/api/tokens")  # the token was good to the end
    log = (folder / "service.log").read_text()
    made.stop()
    assert "Traceback" not in log, log[-3000:]


schema = schemathesis.openapi.from_dict(create_app().openapi())
#: An operator's destination may be any folder of this machine: those are made with a tenant's token only. And who has
#: revoked the token that they use sees nothing more.
OPERATORS = schema.exclude(path_regex=r"^/api/backup-destinations", method_regex="POST|PUT|DELETE").exclude(
    path_regex=r"^/api/tokens/", method="DELETE"
)
FUZZED = settings(
    max_examples=12, deadline=None, derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.function_scoped_fixture],
)  # fmt: skip


@pytest.mark.timeout(300)
@OPERATORS.parametrize()
@FUZZED
def test_as_an_operator(case: Any, service: Service) -> None:
    ask(case, service, service.token)


@pytest.fixture(scope="module")
def tenant(service: Service) -> str:
    body = {"name": "tenant", "abilities": ["*"], "user_id": 7}
    return str(service.call("POST", "/api/tokens", 201, json=body)["token"])


@pytest.mark.timeout(300)
@schema.parametrize()
@FUZZED
def test_as_a_tenant(case: Any, service: Service, tenant: str) -> None:
    ask(case, service, tenant)


def ask(case: Any, service: Service, token: str) -> None:
    case.call_and_validate(
        base_url=f"http://127.0.0.1:{service.port}",
        headers={"Authorization": f"Bearer {token}"},
        checks=CONFORMANCE,
        timeout=30,
    )
