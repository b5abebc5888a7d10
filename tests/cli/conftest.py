"""A PostgreSQL for the commands that can use one."""

from records.conftest import postgres as postgres
