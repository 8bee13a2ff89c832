"""An FTP server that is polite until something is to be stored, and then never says anything again: hanging_ftp.py.
Prints its port, and `hangs` when that has happened."""

from __future__ import annotations

import asyncio

ANSWERS = {"USER": "331 password", "PASS": "230 in", "TYPE": "200 ok", "CWD": "250 ok", "OPTS": "200 ok",
           "MLSD": "550 no", "LIST": "550 no", "SIZE": "550 no", "RETR": "550 no", "MKD": "257 ok"}  # fmt: skip


async def hang(*_: object) -> None:
    await asyncio.Event().wait()


async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"220 ready\r\n")
    while command := (await reader.readline()).decode().split(" ")[0].strip().upper():
        if command == "EPSV":
            passive = await asyncio.start_server(hang, "127.0.0.1", 0)
            writer.write(f"229 ok (|||{passive.sockets[0].getsockname()[1]}|)\r\n".encode())
        elif command in ("STOR", "DELE"):
            print("hangs", flush=True)
            await hang()
        else:
            writer.write(f"{ANSWERS.get(command, '500 what?')}\r\n".encode())
        await writer.drain()


async def main() -> None:
    server = await asyncio.start_server(control, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
