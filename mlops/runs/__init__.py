"""One training on this machine: its workspace, its monitor, and the launcher and the worker of several processes."""
