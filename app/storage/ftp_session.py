"""One logged-in FTP connection, and its data connections.

Sources: RFC 959 (FTP), 2228 and 4217 (FTP over TLS), 2428 (EPSV, EPRT), 2640 (UTF-8), 3659 (MLSD, SIZE, REST).
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import aioftp
from aioftp.common import SSLSessionBoundContext
from aioftp.errors import AIOFTPException, StatusCodeError

from app.addresses import AddressGuard
from app.errors import (
    CertificateInvalid,
    DestinationBusy,
    DestinationInvalid,
    DestinationRefused,
    DestinationUnreachable,
    NoSpace,
    ObjectNotFound,
    StorageError,
    StoragePermissionDenied,
)
from app.outgoing import connected
from app.storage.base import claimed_size
from app.storage.config import FtpConfiguration

_BUFFER = 1 << 20
_CLOSE_SECONDS = 5
#: What ProFTPD, vsftpd, Pure-FTPd, FileZilla, IIS and Serv-U say when there are too many of us, with 421 or 530; and
#: what they say with the same words when it is about the password.
_CROWDED = re.compile(
    r"too many|max(imum|\.)? |\bmaximum\b|already (connected|logged)|more than \d+ connections|connection count|"
    r"connection limit|try (again )?later"
)
_MISTRUST = re.compile(r"attempt|failure|failed|password|incorrect|banned")
_MAX_REPLY = 1000  # lines
_MAX_LINE = 1 << 16


class InvalidReply(Exception):
    """An answer that no FTP server gives."""


@contextmanager
def mapped(what: str) -> Iterator[None]:
    """Turn what the library and the line raise into our errors. DestinationUnreachable: another try may help."""
    try:
        yield
    except StatusCodeError as error:
        raise _explained(what, error) from error
    except ssl.SSLCertVerificationError as error:
        raise CertificateInvalid(
            f"{what}: the server's certificate cannot be trusted ({error.verify_message}); give the certificate that "
            "signed it (certificate)"
        ) from error
    except (InvalidReply, ValueError, IndexError) as error:
        raise DestinationInvalid(
            f"{what}: the server does not answer as an FTP server does ({error!s:.200})"
        ) from error
    except (AIOFTPException, OSError, TimeoutError, EOFError) as error:
        reason = str(error) or type(error).__name__
        raise DestinationUnreachable(f"{what}: the server cannot be reached or the line broke ({reason})") from error


def _explained(what: str, error: StatusCodeError) -> StorageError:
    code = str(error.received_codes[-1])
    said = " ".join(line.strip(" -") for line in error.info)[:300]
    text = said.lower()
    if code in ("421", "530") and _CROWDED.search(text) and not _MISTRUST.search(text):
        return DestinationBusy(
            f"{what}: the server allows no more connections of this user or address ({said}); end other programs "
            "that use it, or have the limit raised"
        )
    if code == "530":
        return DestinationRefused(f"{what}: authentication failed; check username and password ({said})")
    if code in ("452", "552") or "no space" in text or "quota" in text or (code == "451" and "writ" in text):
        return NoSpace(f"{what}: no space left at the destination ({said}); free some or choose another one")
    if code == "550" and "ermission" in said:
        return StoragePermissionDenied(f"{what}: permission denied; give the user access to the folder")
    if code == "550":
        return ObjectNotFound(f"{what}: there is no such object, or it may not be used ({said})")
    if code == "553":
        return StoragePermissionDenied(f"{what}: the server does not allow it ({said})")
    if code.startswith("4"):
        return DestinationUnreachable(f"{what}: the server is busy or failing ({code} {said})")
    return StorageError(f"{what}: the server refused ({code} {said})")


class FtpSession(aioftp.Client):
    """aioftp shakes hands for TLS on a data connection before it sends the command, and real servers wait for the
    command first: both would wait for ever. Here the command goes first, and TLS resumes the control connection's
    session, which servers demand. Any refusal of EPSV falls back to PASV, not 50x alone.
    """

    def __init__(self, configuration: FtpConfiguration, guard: AddressGuard) -> None:
        timeout = configuration.timeout
        self._configuration = configuration
        self._guard = guard
        self._context = None if configuration.ssl == "none" else _context(configuration)
        implicit = self._context if configuration.ssl == "implicit" else None
        super().__init__(socket_timeout=timeout, connection_timeout=timeout, ssl=implicit)

    async def open(self) -> None:
        """Connect, secure, log in. Raises what `mapped` maps, and the guard's errors."""
        settings = self._configuration
        async with asyncio.timeout(settings.timeout):
            await self.connect(settings.host, settings.port)
            self._address: str = self.stream.writer.get_extra_info("peername")[0]
            if settings.ssl == "explicit" and self._context is not None:
                await self.command("AUTH TLS", "234")
                await self.stream.start_tls(sslcontext=self._context, server_hostname=settings.host)
            if settings.ssl != "none":
                await self._send_tls_protection_commands()
            password = settings.password.get_secret_value() if settings.password else ""
            await self.login(settings.username, password)
            with suppress(StatusCodeError):
                await self.command("OPTS UTF8 ON", "2xx")
            await self.command("TYPE I", "200")

    async def _open_connection(self, host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The control connection; data connections are opened by `data`."""
        secured: dict[str, Any] = {"ssl": self.ssl, "server_hostname": self._configuration.host} if self.ssl else {}
        line = await connected(self._guard, host, port)
        return await asyncio.open_connection(sock=line, limit=_MAX_LINE, **secured)

    @asynccontextmanager
    async def data(self, command: str, offset: int = 0) -> AsyncGenerator[Data, None]:
        """The data connection of a transfer that begins with `command`; at the end the server has confirmed it.

        Left early, the session is of no use any more.
        """
        if self._configuration.passive:
            reader, writer = await self._connect_data()
            try:
                await self._begin(command, offset)
            except BaseException:
                _drop(writer)
                raise
        else:
            reader, writer = await self._accept_data(command, offset)
        data = Data(reader, writer, self._configuration.timeout)
        try:
            if self._context is not None:
                await self._secure(data)
            yield data
            await data.close()
        except BaseException as error:
            _drop(writer)
            if isinstance(error, OSError | TimeoutError):
                await self._verdict()
            raise
        async with asyncio.timeout(10 * self._configuration.timeout):  # also when it says for ever that it goes on
            await super().command(None, "2xx", "1xx")

    async def _verdict(self) -> None:
        """A server that is full closes the data connection first and says why afterwards. Raises StatusCodeError."""
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.command(None, "2xx", "1xx")

    async def _begin(self, command: str, offset: int) -> None:
        if offset:
            await self.command(f"REST {offset}", "350")
        await self.command(command, "1xx")

    async def _connect_data(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            _, port = await self._do_epsv()
        except StatusCodeError:
            # The address in the answer is not used: behind NAT it is wrong, and it could be anybody's.
            _, port = await self._do_pasv()
        async with asyncio.timeout(self._configuration.timeout):
            line = await connected(self._guard, self._address, port)
            return await asyncio.open_connection(sock=line, limit=_BUFFER)

    async def _accept_data(self, command: str, offset: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Active mode: the server connects to us. Nobody else is let in."""
        here = self.stream.writer.get_extra_info("sockname")[0]
        family = socket.AF_INET6 if ":" in here else socket.AF_INET
        loop = asyncio.get_running_loop()
        with socket.socket(family, socket.SOCK_STREAM) as listener:
            listener.setblocking(False)
            listener.bind((here, 0))
            listener.listen(1)
            port = listener.getsockname()[1]
            try:
                await self.command(f"EPRT |{2 if ':' in here else 1}|{here}|{port}|", "200")
            except StatusCodeError:
                await self.command(f"PORT {here.replace('.', ',')},{port >> 8},{port & 255}", "200")
            await self._begin(command, offset)
            async with asyncio.timeout(self._configuration.timeout):
                while True:
                    connection, peer = await loop.sock_accept(listener)
                    if peer[0] == self._address:
                        return await asyncio.open_connection(sock=connection, limit=_BUFFER)
                    connection.close()

    async def _secure(self, data: Data) -> None:
        control = self.stream.writer.transport.get_extra_info("ssl_object")
        context: Any = self._context
        if control is not None and control.session is not None:
            context = SSLSessionBoundContext(ssl.PROTOCOL_TLS_CLIENT, control.context, control.session)
        await data.writer.start_tls(
            context, server_hostname=self._configuration.host, ssl_handshake_timeout=self._configuration.timeout
        )

    async def command(self, *arguments: Any, **options: Any) -> Any:
        """As the library's, which waits so long for each line of an answer, within `timeout` in all."""
        async with asyncio.timeout(self._configuration.timeout):
            return await super().command(*arguments, **options)

    async def size(self, path: str) -> int:
        """Raises StatusCodeError when there is no file at `path`."""
        _, info = await self.command(f"SIZE {path}", "213")
        return claimed_size(path, info[0].strip())

    async def parse_response(self) -> tuple[Any, list[str]]:
        """As the library's, of a server that comes to an end with it."""
        lines: list[str] = []
        code, rest = await self.parse_line()
        current = code
        lines.append(rest)
        while rest.startswith("-") or not current.isdigit():
            if len(lines) > _MAX_REPLY:
                raise InvalidReply("a reply without an end")
            current, rest = await self.parse_line()
            lines.append(rest if current.isdigit() else current + rest)
            if current.isdigit() and current != code:
                raise StatusCodeError(code, current, lines)
        return code, lines

    def close(self) -> None:
        """At once, whatever is under way."""
        if self._stream is not None:
            _drop(self._stream.writer)

    async def end(self) -> None:
        """Say good-bye, shortly."""
        with suppress(AIOFTPException, OSError, TimeoutError):
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self.command("QUIT", "2xx")
        self.close()
        await asyncio.sleep(0)  # the loop closes the socket in its next turn


class Data:
    """A data connection with a timeout for each read and write."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout: float) -> None:
        self.reader = reader
        self.writer = writer
        self._timeout = timeout
        writer.transport.set_write_buffer_limits(_BUFFER)

    async def read(self, count: int) -> bytes:
        async with asyncio.timeout(self._timeout):
            return await self.reader.read(count)

    async def write(self, content: bytes) -> None:
        self._check()
        async with asyncio.timeout(self._timeout):
            self.writer.write(content)
            await self.writer.drain()
            await asyncio.sleep(0)  # drain gives nobody else a turn while there is room
        self._check()

    def _check(self) -> None:
        """asyncio swallows what is written to a connection that ends: without an error, as much as one likes."""
        if self.reader.at_eof() or self.writer.transport.is_closing() or _good_bye(self.writer.transport):
            raise ConnectionResetError("the server closed the data connection")

    def abort(self) -> None:
        _drop(self.writer)

    async def close(self) -> None:
        async with asyncio.timeout(self._timeout):
            self.writer.close()
            try:
                await self.writer.wait_closed()
            except ssl.SSLError:  # a server that does not say good-bye; SIZE tells whether all came
                _drop(self.writer)


def _good_bye(transport: asyncio.BaseTransport) -> bool:
    """Whether the other end of a TLS connection has gone without saying so, as when its process is killed: asyncio
    then waits for its good-bye, and tells nobody."""
    return bool(getattr(getattr(transport, "_ssl_protocol", None), "_eof_received", False))


def _drop(writer: asyncio.StreamWriter) -> None:
    """Close at once, with no good-bye to wait for."""
    with suppress(AttributeError):  # asyncio, when the connection has been closed entirely already
        writer.transport.abort()


def _context(configuration: FtpConfiguration) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cadata=configuration.certificate)
    except (ssl.SSLError, ValueError) as error:
        raise CertificateInvalid("`certificate` is not a PEM certificate") from error
    if not configuration.verify_certificate:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
