"""The components of the deployment. None of them is shipped with the functions."""
