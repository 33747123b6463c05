"""What every process of the platform runs on: tasks, memory, log lines, counts, and messages to systemd."""
