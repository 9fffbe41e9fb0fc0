"""Servers and workers for a team, and the backup of what they hold."""
