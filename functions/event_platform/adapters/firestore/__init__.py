"""The store on Google Cloud. Nothing is imported here: each function imports the modules that it needs."""
