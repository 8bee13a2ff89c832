"""What anybody on this machine or behind a proxy wants: to be somebody else to the limits and the audit trail."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

import pytest

from app.api.clients import Trusted, address_of, network_of
from demo.service import Service


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        (" 192.0.2.1:443 ", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::1"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ('"[2001:db8::1]:443"', "2001:db8::1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("[::ffff:192.0.2.1]:1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("unknown", None),
        ("", None),
        ("192.0.2.1:x", None),
        ("[::1", None),
        ("[::1]x", None),
        ("192.0.2.1, 192.0.2.2", None),
        ("0x7f.1", None),
        ("①②⑦.0.0.1", None),
    ],
)
def test_addresses_as_proxies_write_them(text: str, address: str | None) -> None:
    found = address_of(text)
    assert (None if found is None else str(found)) == address


def test_only_what_trusted_proxies_saw_is_believed() -> None:
    trusted = Trusted([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])
    assert trusted.client("203.0.113.9", ["198.51.100.1"]) == "203.0.113.9", "a stranger's word is nothing"
    assert trusted.client("10.0.0.1", ["198.51.100.1"]) == "198.51.100.1"
    assert trusted.client("10.0.0.1", ["6.6.6.6", " 198.51.100.1", " 10.0.0.2"]) == "198.51.100.1"
    assert trusted.client("::ffff:10.0.0.1", ["[2001:db8::1]:99", "fd00::2"]) == "2001:db8::1"
    assert trusted.client("10.0.0.1", ["6.6.6.6", "unknown"]) == "10.0.0.1", "what is no address says nothing"
    assert trusted.client("10.0.0.1", ["10.0.0.3", "10.0.0.2"]) == "10.0.0.3", "everybody is trusted: the first"
    assert trusted.client("10.0.0.1", []) == "10.0.0.1"
    assert Trusted([]).client("127.0.0.1", ["198.51.100.1"]) == "127.0.0.1", "by default nobody is"


def test_whoever_has_a_network_of_ipv6_addresses_is_one_client() -> None:
    assert network_of("2001:db8:1:2::1") == network_of("2001:db8:1:2:ffff::2") != network_of("2001:db8:1:3::1")
    assert network_of("192.0.2.1") == network_of("::ffff:192.0.2.1") != network_of("192.0.2.2")


@pytest.fixture(scope="module", params=["[]", '["127.0.0.0/8"]'])
def service(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    made = Service(
        tmp_path_factory.mktemp("forwarded"),
        LIBERU_SERVER__FAILURES_PER_MINUTE="5",
        LIBERU_SERVER__TRUSTED_PROXIES=request.param,
    )
    made.start()
    yield made
    made.stop()


def test_a_guesser_wants_to_be_somebody_else_each_time(service: Service) -> None:
    """The spoofed part stands left of what a proxy has added."""
    with service.client("lbk_guess") as client:
        found = [
            client.get("/api/domains", headers={"X-Forwarded-For": f"192.0.2.{number}, 198.51.100.7"}).status_code
            for number in range(12)
        ]
    assert (found[:5], found[-1]) == ([401] * 5, 429)
    events = service.call("GET", "/api/audit-events?per_page=50")["data"]
    seen = {event["address"] for event in events if event["outcome"] == "401"}
    believed = service.env["LIBERU_SERVER__TRUSTED_PROXIES"] != "[]"
    assert seen == {"198.51.100.7" if believed else "127.0.0.1"}
