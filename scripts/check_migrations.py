"""Checks that the migrations make exactly what the models say, on a fresh SQLite file."""

from __future__ import annotations

import tempfile
from pathlib import Path

from alembic import command
from alembic.config import Config


def main() -> None:
    root = Path(__file__).parent.parent
    with tempfile.TemporaryDirectory() as folder:
        config = Config(root / "alembic.ini")
        config.set_main_option("sqlalchemy.url", f"sqlite:///{folder}/check.db")
        command.upgrade(config, "head")
        command.check(config)
        command.downgrade(config, "base")


if __name__ == "__main__":
    main()
