"""What each stage of the pipeline reads and writes. `python -m stages NAME IN... OUT...` runs one."""

import os

# mlflow reads these when it is imported, wherever in a stage that happens first.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
# A lost server is said within seconds, and training goes on without it; the default tries for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
# No plugin of pydantic that happens to be installed may read params.yaml otherwise; nor is it worth looking for one.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
