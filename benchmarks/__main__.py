"""make bench NAME=…: a table, then one JSON object as the last line."""

from __future__ import annotations

import sys

from benchmarks import databases, deployments, destinations, imports, jobs, kubernetes, memory, pipeline, ssh_restore

BENCHMARKS = {
    "pipeline": pipeline.main, "memory": memory.main, "destinations": destinations.main,
    "deployments": deployments.main, "import": imports.main, "jobs": jobs.main, "ssh-restore": ssh_restore.main,
    "databases": databases.main, "kubernetes": kubernetes.main,
}  # fmt: skip


def main() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in BENCHMARKS:
        sys.exit(f"usage: make bench NAME={'|'.join(BENCHMARKS)}")
    BENCHMARKS[name]()


if __name__ == "__main__":
    main()
