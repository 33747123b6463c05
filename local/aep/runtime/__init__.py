"""The base of every process of the platform: tasks, memory, log lines, counts, and messages to systemd."""
