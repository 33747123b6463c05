"""The server on this machine: connections and their bounds, `/metrics`, and the last calls of each PIM."""
