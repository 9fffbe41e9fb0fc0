"""`python -m deploy.backup FOLDER`: all databases and objects of a team's servers into a new folder, while they serve.

The databases come first, each as one snapshot. MLflow and Prefect only add objects, and a database names none that is
not there yet, so whatever the copies of the databases name is among the objects.
"""

from pathlib import Path

import click

from deploy.servers_data import DATABASES, OBJECTS, SUMS, databases, objects, place_of, run, store
from mlops.project.errors import UserError, command_line, disk_errors
from mlops.project.identity import file_digest


def back_up(folder: Path) -> None:
    """Write databases, objects and their sums; a folder with anything in it is a UserError.

    The sums come last: a folder without them is no backup.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} is not empty; name a new folder")
    with store() as client, disk_errors(folder):
        client.list_buckets()  # fails before any work
        names = databases()
        (folder / DATABASES).mkdir(parents=True)
        for name in names:
            run("pg_dump", "-w", "--format=custom", f"--file={folder / DATABASES / name}.dump", name)
        for count, (bucket, key) in enumerate(objects(client), 1):
            path = place_of(folder, bucket, key)
            path.parent.mkdir(parents=True, exist_ok=True)
            client.download_file(bucket, key, str(path))
            if count % 1000 == 0:
                print(f"{count} objects")
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        lines = [f"{file_digest(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
        (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    copied = sum(path.is_relative_to(folder / OBJECTS) for path in files)
    print(f"{folder}: {len(names)} databases, {copied} objects")


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@command_line()
def main(folder: Path) -> None:
    """Back up PostgreSQL (PGHOST, PGUSER, PGPASSWORD) and the store (MLFLOW_S3_ENDPOINT_URL, AWS_*) into FOLDER."""
    back_up(folder)


if __name__ == "__main__":
    main()
