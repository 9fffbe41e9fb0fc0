"""What each stage of the pipeline reads and writes. `python -m stages NAME IN... OUT...` runs one."""
