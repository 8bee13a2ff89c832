"""A tenant wants to reach what only this service reaches: itself, its network, its cloud's metadata."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from app.addresses import AddressGuard
from app.deployments import ssh
from app.errors import AddressForbidden, DestinationUnreachable, NotificationFailed
from app.notifications.apprise import AppriseMessenger
from app.notifications.webhook import WebhookMessenger
from app.outgoing import GuardedSocket, connected
from app.security.jwt import JwksClient
from app.storage.base import Options
from app.storage.registry import build_driver
from demo.service import Service
from tests.test_notifications import NOTE, Receiver

PUBLIC = "93.184.215.14"


class Trap:
    """Counts who connects; answers everybody the same."""

    def __init__(self, answer: bytes = b"", address: str = "127.0.0.1") -> None:
        self.heard: list[bytes] = []
        self._answer = answer
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            line, _ = self._listener.accept()
            with line:
                line.settimeout(5)
                if self._answer:
                    line.sendall(self._answer)
                heard = line.recv(1000)
            if heard == b"stop":
                return
            self.heard.append(heard)

    def stop(self) -> None:
        with socket.create_connection(self._listener.getsockname()) as line:
            line.sendall(b"stop")
            self._thread.join()
        self._listener.close()


@pytest.fixture
def trap() -> Iterator[Trap]:
    made = Trap()
    yield made
    made.stop()


@pytest.fixture
def inside() -> Iterator[Receiver]:
    """A service of this machine with something to tell."""
    made = Receiver(500)
    yield made
    made.stop()


class Names:
    """A name server of the attacker's: another answer each time, the last one for ever."""

    def __init__(self, *answers: str) -> None:
        self.answers = [[answer] for answer in answers]
        self.asked: list[str] = []

    async def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def tenant(names: Names | None = None) -> AddressGuard:
    return AddressGuard(allow_private=False) if names is None else AddressGuard(allow_private=False, lookup=names)


def webhook(url: str, guard: AddressGuard) -> WebhookMessenger:
    return WebhookMessenger(url, "whsec_c2VjcmV0", guard, 5)


#: This machine, its network or its cloud, as people and libraries write them.
PRIVATE = [
    "127.0.0.1", "①②⑦.0.0.1", "127。0。0。1", "１２７.0.0.1", "2130706433", "0x7f.1", "0177.0.0.1", "127.1",
    "0x7f000001", "127.0.0.1.", "localhost", "LOCALHOST.", "[::1]", "[::ffff:127.0.0.1]", "[::127.0.0.1]",
    "[::ffff:0:127.0.0.1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::127.0.0.1]", "[2002:7f00:1::]", "[2001:0:7f00:1::]",
    "[2001:0:808:808:0:0:80ff:fffe]", "0.0.0.0", "0.1.2.3", "[::]", "10.0.0.1", "100.64.0.1", "172.16.0.1",
    "192.168.0.1", "[fc00::1]", "[fec0::1]", "255.255.255.255", "224.0.0.1", "[ff02::1]", "240.0.0.1",
]  # fmt: skip
#: Nobody's, operators' neither.
METADATA = [
    "169.254.169.254", "①⑥⑨.254.169.254", "2852039166", "0xa9fea9fe", "[::ffff:169.254.169.254]",
    "[::169.254.169.254]", "[64:ff9b::a9fe:a9fe]", "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]", "[2001:0:a9fe:a9fe::]", "[fe80::1]",
    "[fe80::1%251]", "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200", "192.0.0.192", "168.63.129.16",
]  # fmt: skip


@pytest.mark.parametrize("host", [*PRIVATE, *METADATA])
async def test_a_webhook_wants_this_machine(inside: Receiver, host: str) -> None:
    port = inside.url.rpartition(":")[2].partition("/")[0]
    with pytest.raises(AddressForbidden, match="may not be reached"):
        await webhook(f"http://{host}:{port}/", tenant()).send(NOTE)
    assert inside.got == []


@pytest.mark.parametrize("host", METADATA)
async def test_an_operators_mistake_wants_the_metadata(host: str) -> None:
    with pytest.raises(AddressForbidden):
        AddressGuard().check_host(host)
    with pytest.raises(AddressForbidden):
        await AddressGuard(lookup=Names(host.strip("[]").replace("%25", "%"))).addresses("name.example", 80)


async def test_what_everybody_may_reach() -> None:
    for host in (
        PUBLIC,
        "[2606:4700::1111]",
        f"[64:ff9b::{PUBLIC}]",
        f"[::ffff:{PUBLIC}]",
        "example.com",
        "a_b.example",
    ):
        tenant().check_host(host)
    AddressGuard().check_host("10.0.0.1")
    assert await tenant(Names(PUBLIC)).addresses("xn--e1afmkfd.xn--p1ai", 80) == [PUBLIC]


@pytest.mark.parametrize("host", ["", ".", "a..b", "-a", "a b", "a\0b", "xn--", "a" * 64, "1.2.3.4.5", "999.1.1.1",
                                  "[1]", "[::1", "a:1", "0x"])  # fmt: skip
async def test_what_is_no_host(host: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        tenant().check_host(host)
    with pytest.raises(DestinationUnreachable):
        await tenant().addresses(host, 80)


async def test_a_webhook_wants_to_read_what_it_reached(inside: Receiver) -> None:
    """Whoever may reach something inside (operators, if they say so) reads nothing of it in the log."""
    with pytest.raises(NotificationFailed) as raised:
        await webhook(inside.url, AddressGuard()).send(NOTE)
    assert raised.value.message == "HTTP 500, 7 bytes"


async def test_a_name_wants_to_change_its_meaning(inside: Receiver) -> None:
    """Public when it is checked, this machine when it is connected to; and the other way round, once for each
    connection: what was judged is what is connected to."""
    port = inside.url.rpartition(":")[2].partition("/")[0]
    names = Names(PUBLIC, "127.0.0.1")
    assert await tenant(names).addresses("evil.example", 80) == [PUBLIC]
    with pytest.raises(AddressForbidden) as raised:
        await webhook(f"http://evil.example:{port}/", tenant(names)).send(NOTE)
    assert "127.0.0.1" not in raised.value.message, "nor is it told what our names mean"
    assert inside.got == []
    names = Names("127.0.0.1", "127.0.0.2")
    with pytest.raises(NotificationFailed, match="HTTP 500"):
        await webhook(f"http://evil.example:{port}/", AddressGuard(lookup=names)).send(NOTE)
    assert names.asked == ["evil.example"], "looked up once"


async def test_one_of_many_addresses_wants_through() -> None:
    async def both(host: str, port: int) -> list[str]:
        return [PUBLIC, "127.0.0.1"]

    with pytest.raises(AddressForbidden):
        await AddressGuard(allow_private=False, lookup=both).addresses("evil.example", 80)


async def test_a_key_server_wants_to_be_inside(inside: Receiver) -> None:
    await JwksClient(inside.url, tenant())._fetch()
    await JwksClient(inside.url.replace("127.0.0.1", "①②⑦.0.0.1"), tenant())._fetch()
    assert inside.got == []


SFTP = {"username": "u", "password": "p", "timeout": 5}
FTP = {"username": "u", "password": "p", "timeout": 5, "ssl": "none", "allow_plaintext": True}


@pytest.mark.parametrize(("kind", "more"), [("sftp", SFTP), ("ftp", FTP)])
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "2130706433", "0x7f.1", "::ffff:127.0.0.1", "localhost", "evil.example"]
)
async def test_a_destination_wants_to_be_inside(trap: Trap, kind: str, more: dict[str, Any], host: str) -> None:
    names = Names("127.0.0.1") if host == "evil.example" else None
    driver = build_driver(kind, {"host": host, "port": trap.port, **more}, Options(tenant(names), resume_seconds=0))
    with pytest.raises(AddressForbidden):
        [key async for key in driver.list("")]
    await driver.close()
    assert trap.heard == []


@pytest.mark.parametrize(
    ("endpoint", "bucket", "path_style"),
    [
        ("http://127.0.0.1:{}", "bucket", True), ("http://localhost:{}", "bucket", True),
        ("http://[::1]:{}", "bucket", True),
        ("http://0.1:{}", "127.0", False), ("http://evil.example:{}", "bucket", False),
    ],
)  # fmt: skip
async def test_a_bucket_wants_to_be_inside(trap: Trap, endpoint: str, bucket: str, path_style: bool) -> None:
    """Of `http://0.1` with the bucket `127.0` the SDK makes 127.0.0.1, and the HTTP library asks no resolver."""
    configuration = {
        "key": "k", "secret": "s", "bucket": bucket, "endpoint": endpoint.format(trap.port), "timeout": 5,
        "use_path_style_endpoint": path_style,
    }  # fmt: skip
    names = Names("127.0.0.1") if "evil" in endpoint else None
    driver = build_driver("s3", configuration, Options(tenant(names), resume_seconds=0))
    with pytest.raises(AddressForbidden):
        [key async for key in driver.list("")]
    await driver.close()
    assert trap.heard == []


async def test_a_proxy_of_the_environment_wants_to_look_names_up(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{trap.port}")
    configuration = {"key": "k", "secret": "s", "bucket": "bucket", "endpoint": "http://evil.example", "timeout": 5}
    driver = build_driver("s3", configuration, Options(tenant(Names("127.0.0.1")), resume_seconds=0))
    with pytest.raises(AddressForbidden):
        [key async for key in driver.list("")]
    await driver.close()
    assert trap.heard == []


async def test_a_socket_wants_elsewhere_than_was_judged(trap: Trap) -> None:
    """Whoever has looked the name up: the socket itself says no, before and after."""
    line = GuardedSocket(tenant(), socket.AF_INET)
    for forbidden in (("127.0.0.1", trap.port), ("localhost", trap.port)):
        with pytest.raises(AddressForbidden):
            line.connect(forbidden)
    line.close()
    reached = await connected(AddressGuard(), "127.0.0.1", trap.port)
    reached._guard = tenant()  # type: ignore[attr-defined]
    with pytest.raises(AddressForbidden):
        await asyncio.open_connection(sock=reached)
    reached.close()


async def test_an_ftp_server_wants_our_data_connection_elsewhere(trap: Trap) -> None:
    """PASV may name any address: the data connection goes to whom the control connection goes to."""
    served: list[str] = []
    data: list[str] = []
    answering: set[asyncio.Task[None] | None] = set()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answering.add(asyncio.current_task())
        writer.write(b"220 hello\r\n")
        while line := (await reader.readline()).decode().strip():
            served.append(line.split()[0])
            said = {"USER": "331 password", "PASS": "230 in", "EPSV": "500 no", "QUIT": "221 bye"}.get(
                line.split()[0], "200 ok"
            )
            if line == "PASV":
                high, low = divmod(passive.sockets[0].getsockname()[1], 256)
                said = f"227 Entering Passive Mode (127,0,0,2,{high},{low})"
            writer.write(f"{said}\r\n".encode())
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def receive(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data.append(writer.get_extra_info("sockname")[0])
        writer.close()

    passive = await asyncio.start_server(receive, "0.0.0.0", 0)
    control = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = control.sockets[0].getsockname()[1]
    driver = build_driver("ftp", {"host": "127.0.0.1", "port": port, **FTP}, Options(resume_seconds=0))
    with pytest.raises(Exception, match=r".+"):
        [key async for key in driver.list("")]
    await driver.close()
    assert "PASV" in served
    assert set(data) == {"127.0.0.1"}
    control.close()
    passive.close()
    await asyncio.wait({task for task in answering if task is not None}, timeout=20)


async def test_apprise_wants_the_metadata(trap: Trap) -> None:
    """Its libraries connect by themselves, and follow redirects."""
    with pytest.raises(AddressForbidden):
        await AppriseMessenger("json://169.254.169.254/", 20).send(NOTE)
    leads = Trap(b"HTTP/1.1 307 Temporary Redirect\r\nLocation: http://2852039166/\r\nContent-Length: 0\r\n\r\n")
    try:
        with pytest.raises(AddressForbidden):
            await AppriseMessenger(f"json://127.0.0.1:{leads.port}/", 20).send(NOTE)
        assert len(leads.heard) == 1
    finally:
        leads.stop()
    with pytest.raises(AddressForbidden):
        url = f"mailto://127.0.0.1:{trap.port}?from=a@example.com&to=b@example.com&mode=insecure"
        await AppriseMessenger(url, 20, allow_private=False).send(NOTE)
    assert trap.heard == []


async def test_apprise_wants_our_proxy_and_our_time(trap: Trap, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{trap.port}")
    with pytest.raises(NotificationFailed):
        await AppriseMessenger("json://127.0.0.1:9/", 20).send(NOTE)
    assert trap.heard == []
    silent = socket.create_server(("127.0.0.1", 0))
    with pytest.raises(NotificationFailed, match="No answer within 2 s"):
        await AppriseMessenger(f"json://127.0.0.1:{silent.getsockname()[1]}/", 2).send(NOTE)
    silent.close()


def test_a_site_wants_to_be_the_metadata(service: Service) -> None:
    """Where a database or a server is set, and where a name of one is looked up."""
    server = {"type": "ssh", "username": "root", "password": "x"}
    for host in ("169.254.169.254", "2852039166", "[fd00:ec2::254]"):
        for more in (
            {"databases": [{"engine": "mysql", "name": "a", "host": host}]},
            {"deployment": server | {"host": host}},
        ):
            answer = service.call("POST", "/api/domains", 422, json={"domain_name": "a.example.com", **more})
            assert answer["code"] == "address_forbidden"
    body = {
        "domain_name": "b.example.com", "deployment": {"type": "standalone"},
        "databases": [{"engine": "mysql", "name": "a", "host": "10.0.0.1", "username": "u", "password": "p"}],
    }  # fmt: skip
    service.call("POST", "/api/domains", 201, json=body)


async def test_a_server_wants_to_be_the_metadata(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssh, "_OPERATORS", AddressGuard(lookup=Names("169.254.169.254")))

    async def pin(found: dict[str, Any]) -> None: ...

    server = ssh.server_of({"host": "evil.example", "username": "u", "password": "p"})
    with pytest.raises(AddressForbidden):
        await ssh.SshDeployment(server, pin).run(["true"])
