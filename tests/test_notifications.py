"""Notifications: signatures, retries, what is given up, and where they may not go. Receivers are real servers."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from cryptography.fernet import Fernet

from app.addresses import AddressGuard
from app.db.base import now
from app.db.models import BackupSchedule, NotificationChannel, NotificationDelivery, Operation
from app.db.repositories.base import PageRequest
from app.db.repositories.notifications import NotificationRepository
from app.db.session import Database
from app.errors import AddressForbidden, NotificationFailed, NotificationRefused
from app.jobs.courier import PAUSES, Courier
from app.notifications.apprise import AppriseMessenger
from app.notifications.apprise import checked_url as checked_service
from app.notifications.base import Notification
from app.notifications.registry import MessengerRegistry
from app.notifications.webhook import WebhookMessenger, checked_url, new_secret, signature
from app.security.keys import CredentialCipher
from app.services.notices import EVENTS, Notices, matches
from app.settings import NotificationSettings

NOTE = Notification("msg_1", "backup.failed", "Backup failed", "It has failed.", {"data": {"operation_id": 4}})


class Receiver:
    """`answers`: status codes, one for each request, the last one again and again; 0 hangs until the end."""

    def __init__(self, *answers: int) -> None:
        self.answers = list(answers)
        self.got: list[tuple[dict[str, str], bytes]] = []
        self.over = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                status = receiver.answers.pop(0) if len(receiver.answers) > 1 else receiver.answers[0]
                if status == 0:
                    receiver.over.wait(30)
                    return
                self.send_response(status)
                self.send_header("location", "http://127.0.0.1:9/")
                self.end_headers()
                self.wfile.write(b"said so")

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/hook?token=abc"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def stop(self) -> None:
        self.over.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    made = Receiver(200)
    yield made
    made.stop()


def webhook(url: str, *, private: bool = True, seconds: float = 5) -> WebhookMessenger:
    return WebhookMessenger(url, "whsec_c2VjcmV0", AddressGuard(allow_private=private), seconds)


def test_the_standards_own_example() -> None:
    """Standard Webhooks, section "Signature scheme": verified with an HMAC written out here."""
    secret = new_secret()
    body = b'{"event_type":"ping"}'
    key = base64.b64decode(secret.removeprefix("whsec_"))
    expected = base64.b64encode(hmac.new(key, b"msg_1.1674087231." + body, hashlib.sha256).digest()).decode()
    assert signature(secret, "msg_1", 1674087231, body) == f"v1,{expected}"
    example = signature(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}'
    )
    assert example == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "as the reference libraries test"


async def test_a_webhook_arrives_signed(receiver: Receiver) -> None:
    assert await webhook(receiver.url).send(NOTE) == "HTTP 200"
    [(headers, body)] = receiver.got
    assert headers["webhook-id"] == "msg_1"
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 60
    assert headers["webhook-signature"] == signature(
        "whsec_c2VjcmV0", "msg_1", int(headers["webhook-timestamp"]), body
    )
    assert json.loads(body) == {
        "id": "msg_1", "type": "backup.failed", "title": "Backup failed", "text": "It has failed.",
        "data": {"operation_id": 4},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (500, NotificationFailed, "HTTP 500, 7 bytes"), (429, NotificationFailed, "HTTP 429, 7 bytes"),
        (410, NotificationRefused, "HTTP 410, 7 bytes"), (302, NotificationFailed, "HTTP 302, 7 bytes"),
        (0, NotificationFailed, "127.0.0.1 did not answer within 0.3 s"),
    ],
)  # fmt: skip
async def test_what_is_no_success(answer: int, error: type[Exception], text: str) -> None:
    receiver = Receiver(answer)
    try:
        with pytest.raises(error) as raised:
            await webhook(receiver.url, seconds=0.3).send(NOTE)
        assert str(raised.value) == text
        assert len(receiver.got) == 1, "a redirect is not followed"
    finally:
        receiver.stop()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "169.254.169.254", "10.0.0.1", "192.168.1.1", "[fd00:ec2::254]", "0.0.0.0",
     "[::ffff:127.0.0.1]", "100.100.100.200"],
)  # fmt: skip
async def test_a_tenants_webhook_reaches_no_private_address(receiver: Receiver, host: str) -> None:
    port = receiver.url.rpartition(":")[2].partition("/")[0]
    with pytest.raises(AddressForbidden):
        await webhook(f"http://{host}:{port}/", private=False).send(NOTE)
    assert receiver.got == []


async def test_nobody_there() -> None:
    with pytest.raises(NotificationFailed, match="could not be reached: Connect"):
        await webhook("http://127.0.0.1:9/").send(NOTE)
    with pytest.raises(NotificationFailed, match="could not be reached"):
        await webhook("http://nowhere.invalid/").send(NOTE)


async def test_what_is_no_url() -> None:
    for url in (
        "ftp://x/",
        "http://",
        "http://a b/",
        "http://x/\r\nHost: y",
        "http://x:99999/",
        "file:///etc/passwd",
    ):
        with pytest.raises(ValueError, match=r".+"):
            checked_url(url)
    assert checked_url("https://hooks.example.com/x?y=z")
    for url in ("nonsense", "syslog://", "dbus://", ""):
        with pytest.raises(ValueError, match="no URL of a service"):
            await checked_service(url)
    assert await checked_service("mailtos://user:password@example.com")


async def test_mail_is_sent() -> None:
    letters: list[str] = []

    class Box:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
            letters.append(envelope.content.decode())
            return "250 OK"

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    controller = Controller(Box(), hostname="127.0.0.1", port=port)
    controller.start()
    try:
        url = f"mailto://127.0.0.1:{port}?from=backup@example.com&to=ops@example.com&mode=insecure"
        assert await AppriseMessenger(url, 10).send(NOTE) == "taken"
    finally:
        controller.stop()
    [letter] = letters
    assert "Backup failed" in letter
    assert "To: ops@example.com" in letter
    assert base64.b64encode(b"It has failed.").decode() in letter or "It has failed." in letter
    with pytest.raises(NotificationFailed):
        await AppriseMessenger(url, 10).send(NOTE)


CIPHER = CredentialCipher([Fernet.generate_key()])


async def channel(database: Database, url: str, *events: str, user_id: int | None = None) -> int:
    credentials = CIPHER.seal({"url": url, "secret": new_secret()})
    assert credentials is not None
    row = NotificationChannel(
        name="ops", type="webhook", user_id=user_id, shown="http://…", events=list(events or ["*"]),
        credentials=credentials,
    )  # fmt: skip
    async with database.transaction() as session:
        session.add(row)
    return row.id


def courier(database: Database, pauses: tuple[float, ...] = (0, 0)) -> Courier:
    settings = NotificationSettings(allow_private=True, timeout_seconds=5)
    return Courier(database, MessengerRegistry(settings), CIPHER, 1, 5, pauses)


async def deliver(database: Database) -> Courier:
    """Until nothing is due any more."""
    sender = courier(database)
    while await sender.deliver():
        pass
    return sender


def operation(user_id: int | None = 7, **facts: Any) -> Operation:
    return Operation(
        id=4,
        uid="u",
        type="backup",
        user_id=user_id,
        domain_uid="d",
        request={},
        domain_id=None,
        backup_id=None,
        **facts,
    )


async def tell(database: Database, status: str = "failed", user_id: int | None = 7) -> None:
    async with database.transaction() as session:
        await Notices().operation(session, operation(user_id), status, "no_space", "The disk is full")


async def deliveries(database: Database, channel_id: int) -> list[NotificationDelivery]:
    async with database.transaction() as session:
        found = await NotificationRepository(session).deliveries(channel_id, PageRequest(sort="id"), None)
    return list(found.items)


async def test_it_is_tried_until_it_arrives(database: Database) -> None:
    receiver = Receiver(503, 500, 200)
    try:
        number = await channel(database, receiver.url)
        await tell(database)
        sender = await deliver(database)
        [delivery] = await deliveries(database, number)
        assert (delivery.status, delivery.attempts) == ("delivered", 3)
        assert [entry["answer"] for entry in delivery.log] == ["HTTP 503, 7 bytes", "HTTP 500, 7 bytes", "HTTP 200"]
        assert {headers["webhook-id"] for headers, _ in receiver.got} == {delivery.uid}, "one id for all attempts"
        assert not await sender.deliver()
    finally:
        receiver.stop()


async def test_it_is_given_up(database: Database) -> None:
    receiver = Receiver(500)
    try:
        number = await channel(database, receiver.url)
        await tell(database)
        await deliver(database)
        [delivery] = await deliveries(database, number)
        assert (delivery.status, delivery.attempts, len(receiver.got)) == ("failed", 3, 3)
    finally:
        receiver.stop()
    assert sum(PAUSES) > timedelta(days=1).total_seconds(), "a receiver may be away for a day"


async def test_a_refusal_is_final(database: Database) -> None:
    receiver = Receiver(410)
    try:
        number = await channel(database, receiver.url)
        await tell(database)
        await deliver(database)
        [delivery] = await deliveries(database, number)
        assert (delivery.status, delivery.attempts) == ("failed", 1)
    finally:
        receiver.stop()


async def test_two_couriers_send_it_once(database: Database, receiver: Receiver) -> None:
    await channel(database, receiver.url)
    for _ in range(30):
        await tell(database)
    first, second = courier(database), courier(database)
    for _ in range(2):
        await first.deliver()
        await second.deliver()
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(receiver.got) == 30


async def test_what_a_dead_process_had_taken_is_sent_by_another(database: Database, receiver: Receiver) -> None:
    await channel(database, receiver.url)
    await tell(database)
    async with database.transaction() as session:
        assert len(await NotificationRepository(session).claim(now(), now() + timedelta(seconds=-1), 10)) == 1
    await courier(database).deliver()
    assert len(receiver.got) == 1


async def test_tenants_hear_of_their_own_and_operators_of_all(database: Database) -> None:
    ours = await channel(database, "http://x/")
    theirs = await channel(database, "http://x/", user_id=7)
    others = await channel(database, "http://x/", user_id=8)
    await tell(database, user_id=7)
    await tell(database, user_id=None)
    counts = [len(await deliveries(database, number)) for number in (ours, theirs, others)]
    assert counts == [2, 1, 0]


async def test_a_channel_chooses_its_events(database: Database) -> None:
    number = await channel(database, "http://x/", "*.failed", "restore.*")
    await tell(database, "completed")
    await tell(database, "failed")
    [delivery] = await deliveries(database, number)
    assert delivery.title == "Backup of a domain that is gone has failed"
    assert delivery.text.startswith("Backup of a domain that is gone has failed. The disk is full")
    assert delivery.payload["data"]["code"] == "no_space"


async def test_nothing_is_told_of_what_was_rolled_back(database: Database) -> None:
    number = await channel(database, "http://x/")
    with pytest.raises(RuntimeError):
        async with database.transaction() as session:
            await Notices().operation(session, operation(), "failed", None, None)
            raise RuntimeError
    assert await deliveries(database, number) == []


async def test_overdue_says_since_when(database: Database) -> None:
    number = await channel(database, "http://x/")
    schedule = BackupSchedule(id=3, name="nightly", user_id=7, last_good_at=None)
    async with database.transaction() as session:
        await Notices().overdue(session, schedule, now())
    [delivery] = await deliveries(database, number)
    assert delivery.text.startswith("Schedule nightly has no good backup of the run that was due at ")
    assert "there never was one" in delivery.text


def test_every_default_matches_an_event() -> None:
    from app.schemas.notifications import DEFAULT_EVENTS

    assert all(any(matches([pattern], event) for event in EVENTS) for pattern in DEFAULT_EVENTS)
    assert not matches(DEFAULT_EVENTS, "backup.completed")
