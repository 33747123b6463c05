"""docs/operate.md knows every key and every alert."""

import re

from stack.alerts import ALERTS
from stack.function import NeverBuilt
from stack.settings import DeploymentSettings
from stack.source import FOLDER

PAGE = (FOLDER.parent / "docs" / "operate.md").read_text()


def test_every_alert_has_its_runbook_and_every_runbook_its_alert() -> None:
    alerts = PAGE.partition("\n## Alerts\n")[2].partition("\n## ")[0]
    assert re.findall(r"^### (.+)$", alerts, re.MULTILINE) == [alert.name for alert in ALERTS]


def test_the_step_after_a_build_that_failed_is_the_one_that_a_deployment_names() -> None:
    section = PAGE.partition("\n### When a build or a start failed\n")[2].partition("\n## ")[0]
    (command,) = re.findall(r"^pulumi -C infra (config set attempt .+?) +#", section, re.MULTILINE)
    assert f"`pulumi {command}`, then `pulumi up`" in str(NeverBuilt("deliver", attempt=1))


def test_every_key_is_described_and_no_other() -> None:
    table = PAGE.partition("\n## Configuration\n")[2].partition("\n## ")[0]
    described = {
        key
        for row in re.findall(r"^\| (`.+?) \|", table, re.MULTILINE)
        for key in re.findall(r"`(.+?)`", row)
    }
    assert described == {field.alias for field in DeploymentSettings.model_fields.values()}
