"""The formats in which events are taken in, each as validated events."""
