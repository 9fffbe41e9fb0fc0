"""The parameters that a person asks for: as a form, and as a `params.yaml`."""
