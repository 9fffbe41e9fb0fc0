"""What data and machine allow, before anything is trained."""
