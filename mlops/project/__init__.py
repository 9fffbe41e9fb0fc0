"""The project's own files: parameters, results, identity, locks, errors and progress. Nothing here shapes a number."""

import os

# No plugin of pydantic that happens to be installed may read params.yaml otherwise; nor is it worth looking for one.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
