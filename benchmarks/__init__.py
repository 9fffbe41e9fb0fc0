"""What is measured beside the pipeline: each module prints one table."""
