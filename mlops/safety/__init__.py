"""What must hold before work starts, and which files a run may replace or delete."""
