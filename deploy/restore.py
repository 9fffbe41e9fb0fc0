"""`python -m deploy.restore FOLDER`: a backup into empty servers; MLflow and Prefect start afterwards."""

from pathlib import Path

import click

from deploy.servers_data import (
    DATABASES,
    MAINTENANCE,
    OBJECTS,
    SUMS,
    TABLES,
    databases,
    objects,
    query,
    run,
    store,
)
from mlops.project.errors import UserError, command_line
from mlops.project.identity import file_digest


def restore(folder: Path) -> None:
    """Write a backup's databases and objects; a damaged backup, or a server with anything in it, is a UserError."""
    files = _verified(folder)
    dumps = [path for path in files if path.parent == folder / DATABASES]
    copies = [path for path in files if path.is_relative_to(folder / OBJECTS)]
    with store() as client:
        _check_empty(client, [path.stem for path in dumps])
        present = databases()
        for path in dumps:
            if path.stem not in present:
                query(MAINTENANCE, f'CREATE DATABASE "{path.stem}"')
            run("pg_restore", "-w", "--no-owner", "--single-transaction", f"--dbname={path.stem}", str(path))
        buckets = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
        for path in copies:
            bucket, *parts = path.relative_to(folder / OBJECTS).parts
            if bucket not in buckets:
                client.create_bucket(Bucket=bucket)
                buckets.add(bucket)
            client.upload_file(str(path), bucket, "/".join(parts))
    print(f"{folder}: {len(dumps)} databases, {len(copies)} objects")


def _verified(folder: Path) -> list[Path]:
    """Return the files of a backup, each of which has its sum."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise UserError(f"{folder} is no whole backup: it lacks {SUMS}; name another folder") from None
    sums = {folder / name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    for path, digest in sums.items():
        if not path.is_file() or file_digest(path) != digest:
            raise UserError(f"{path} is not as it was backed up; take another backup")
    return list(sums)


def _check_empty(client: object, names: list[str]) -> None:
    for name in set(names) & set(databases()):
        if query(name, TABLES) != ["0"]:
            raise UserError(
                f"database {name} is not empty; stop MLflow and Prefect, and drop it once you have another backup of it"
            )
    for bucket, key in objects(client):
        raise UserError(f"the store is not empty: bucket {bucket} has {key}; restore into a new store")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path, exists=True, file_okay=False))
@command_line()
def main(folder: Path) -> None:
    """Restore FOLDER into PostgreSQL (PGHOST, ...) and the store (MLFLOW_S3_ENDPOINT_URL, ...), which must be empty."""
    restore(folder)


if __name__ == "__main__":
    main()
