"""What a start of the service imports, some of it late: for tests.forked."""

import alembic.command
import alembic.runtime.migration
import alembic.script
import dbos
import uvicorn.lifespan.on
import uvicorn.loops.auto

import app.api.server
import app.bootstrap
import app.cli
import app.main

__all__ = ["alembic", "app", "dbos", "uvicorn"]
