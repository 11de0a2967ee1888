"""PostgreSQL for both servers: one database each, since both keep their migrations in a table of the same name."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit

from pipelines.errors import UserError

SCHEMES = ("postgresql", "postgres")
HINT = "as postgresql://user:password@host:5432/tapeout; the user needs CREATEDB, or both databases made beforehand"
CONNECT_LIMIT_S = 10


def databases(url: str) -> tuple[str, str]:
    """The URLs of NAME_prefect and NAME_mlflow beside the database NAME of the URL, made now unless they are there.

    Raises:
        UserError: no PostgreSQL URL, no server there, or no right to make them.
    """
    parts = urlsplit(url)
    name = parts.path.strip("/")
    if parts.scheme.partition("+")[0] not in SCHEMES or not name:
        raise UserError("--postgres needs the URL of a database", HINT)
    for part in ("prefect", "mlflow"):
        _make(urlunsplit(parts._replace(scheme="postgresql")), f"{name}_{part}")
    prefect = parts._replace(scheme="postgresql+asyncpg", path=f"/{name}_prefect")
    mlflow = parts._replace(scheme="postgresql+psycopg2", path=f"/{name}_mlflow")
    return urlunsplit(prefect), urlunsplit(mlflow)


def _make(url: str, name: str) -> None:
    import psycopg2
    from psycopg2 import errors, sql

    try:
        connection = psycopg2.connect(url, connect_timeout=CONNECT_LIMIT_S)
    except psycopg2.OperationalError as error:
        raise UserError(f"PostgreSQL cannot be used: {str(error).strip()}", HINT) from None
    try:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute("select 1 from pg_database where datname = %s", (name,))
            if cursor.fetchone() is None:
                cursor.execute(sql.SQL("create database {}").format(sql.Identifier(name)))
    except errors.DuplicateDatabase:  # made by another just now
        pass
    except errors.InsufficientPrivilege as error:
        raise UserError(f"PostgreSQL: {str(error).strip()}", HINT) from None
    finally:
        connection.close()
