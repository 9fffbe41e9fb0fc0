"""What a team's servers hold: databases of PostgreSQL and objects of the store, by the variables of `compose.yaml`."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from mlops.project.errors import UserError

if TYPE_CHECKING:
    from pathlib import Path

SUMS, DATABASES, OBJECTS = "SHA256SUMS", "databases", "objects"
"""Of a backup: the sums of all its files as `sha256sum` writes them, and two folders."""
MAINTENANCE = "postgres"
"""Database that every PostgreSQL has, and that holds nothing of the team's."""
TABLES = "SELECT count(*) FROM pg_class JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'public'"
ENDPOINT = "MLFLOW_S3_ENDPOINT_URL"


def run(*command: str) -> str:
    """Return what a program of PostgreSQL prints; if it fails, that is a UserError."""
    try:
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise UserError(f"{command[0]} is not installed; install PostgreSQL's client programs") from None
    if ended.returncode:
        lines = ended.stderr.strip().splitlines() or [f"exit {ended.returncode}"]
        raise UserError(f"{command[0]}: {lines[0]}; correct PGHOST, PGPORT, PGUSER or PGPASSWORD, or what it names")
    return ended.stdout


def query(database: str, text: str) -> list[str]:
    """Return the rows of a query with one column."""
    return run("psql", "--no-psqlrc", "-w", "-At", "-d", database, "-c", text).splitlines()


def databases() -> list[str]:
    """Return the names of the team's databases."""
    return query(MAINTENANCE, f"SELECT datname FROM pg_database WHERE NOT datistemplate AND datname <> '{MAINTENANCE}'")


@contextmanager
def store() -> Iterator[Any]:
    """Yield a client of the store; if that refuses or does not answer, it is a UserError."""
    address = os.environ.get(ENDPOINT)
    if not address:
        raise UserError(f"{ENDPOINT} is not set; set it to the store's address, and AWS_ACCESS_KEY_ID and so on")
    try:
        yield boto3.client("s3", endpoint_url=address)
    except (BotoCoreError, ClientError) as error:
        raise UserError(f"{ENDPOINT}={address}: {error}; start the store, or correct address, key or region") from None


def objects(client: Any) -> Iterator[tuple[str, str]]:
    """Yield bucket and key of every object."""
    for bucket in client.list_buckets()["Buckets"]:
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket["Name"]):
            for content in page.get("Contents", []):
                if not content["Key"].endswith("/"):  # a folder, to some programs
                    yield bucket["Name"], content["Key"]


def place_of(folder: "Path", bucket: str, key: str) -> "Path":
    """Return the file of an object; a key that leads elsewhere, or that is no path, is a UserError."""
    root = folder / OBJECTS / bucket
    path = root / key
    if ".." in path.parts or not path.is_relative_to(root) or path.relative_to(root).as_posix() != key:
        raise UserError(f"object {key!r} of bucket {bucket} is no name of a file; rename it in the store")
    return path
