"""Commands for a platform that runs on Google Cloud. Google's packages are imported when they are used."""
