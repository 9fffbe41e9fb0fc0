"""The stages of `dvc.yaml`, one file each. `python -m stages NAME IN... OUT...` runs one."""
