"""An FTP server that misbehaves: faulty_ftp.py FOLDER PORT FAULT=VALUE; user test, password of demo.ftp_servers.

drop=N   closes every data connection after N bytes    lose=N   accepts an upload, keeps N bytes of it, answers 226
stall=N  stops taking and giving after N bytes         pasv=IP  tells another address in its answers to PASV
deny=A,B answers 550 to these commands                 count=F  adds a line to F: the bytes that a connection sent
"""

from __future__ import annotations

import sys
from typing import Any

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import DTPHandler, FTPHandler
from pyftpdlib.log import logger
from pyftpdlib.servers import FTPServer

root, port, fault, value = sys.argv[1], int(sys.argv[2]), *sys.argv[3].split("=", 1)
limit = int(value) if fault in ("drop", "lose", "stall") else 0


class Data(DTPHandler):  # type: ignore[misc]
    def passed(self, count: int) -> None:
        if fault == "drop" and count >= limit:
            self._resp = ("426 Connection closed; transfer aborted.", logger.warning)
            self.close()
        if fault == "stall" and count >= limit:
            self.del_channel()

    def recv(self, size: int) -> bytes:
        data: bytes = super().recv(size)
        self.passed(self.tot_bytes_received)
        if fault == "lose":
            return data[: max(0, limit - self.tot_bytes_received)]
        return data

    def send(self, data: bytes) -> int:
        count = int(super().send(data))
        self.passed(self.tot_bytes_sent + count)
        return count

    def close(self) -> None:
        if fault == "count" and not self._closed:
            with open(value, "a") as file:
                file.write(f"{self.tot_bytes_sent}\n")
        super().close()


class Handler(FTPHandler):  # type: ignore[misc]
    dtp_handler = Data
    use_sendfile = False
    masquerade_address = value if fault == "pasv" else None

    def pre_process_command(self, line: str, cmd: str, arg: Any) -> None:
        if fault == "deny" and cmd in value.split(","):
            self.respond("550 Not here.")
        else:
            super().pre_process_command(line, cmd, arg)


Handler.authorizer = DummyAuthorizer()
Handler.authorizer.add_user("test", "ftp-canary-pw", root, perm="elradfmwMT")
FTPServer(("127.0.0.1", port), Handler).serve_forever()
