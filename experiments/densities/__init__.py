"""Games on densities that are known exactly: `dvc repro experiments/densities/dvc.yaml`."""
