"""URLs of Google's own console, for what is live there and not here."""

from urllib.parse import quote

CONSOLE = "https://console.cloud.google.com"
OUR_LINES = 'resource.type="cloud_run_revision"'


def dashboards(project: str) -> str:
    """Returns the URL of the dashboards, among which is the platform's."""
    return f"{CONSOLE}/monitoring/dashboards?project={quote(project, safe='')}"


def alerts(project: str) -> str:
    return f"{CONSOLE}/monitoring/alerting?project={quote(project, safe='')}"


def lines(project: str, wanted: str) -> str:
    """Returns the URL of the Logs Explorer with the lines of the functions that a filter wants."""
    query = quote(f"{OUR_LINES}\n{wanted}", safe="")
    return f"{CONSOLE}/logs/query;query={query}?project={quote(project, safe='')}"
