"""Pub/Sub: our own topics, and those of subscribers."""
