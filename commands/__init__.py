"""Commands that a user types: compare, generate, promote, rebuild, preset. One that a flow starts ends with it."""

import os

if os.environ.get("EQUILIBRIUM_PARENTS"):
    from mlops.safety.ending import end_in_time

    end_in_time()
