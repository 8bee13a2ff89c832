"""A storage server at one end of a long line: prints its type and configuration as JSON, ends when stdin does."""

from __future__ import annotations

import json
import sys

from benchmarks.delaylink import SERVER
from demo.ceph import s3_server
from demo.storage_servers import sftp_server


def main() -> None:
    with sftp_server(address=SERVER) if sys.argv[1] == "sftp" else s3_server(SERVER, "bluestore") as server:
        print(json.dumps({"type": server.type, "configuration": server.fresh()}), flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
