"""The platform on one machine: embedded broker and store, server, command line and sandbox."""
