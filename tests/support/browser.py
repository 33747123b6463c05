"""Debian's Chromium, driven by Playwright as a person uses it, with what each page must hold."""

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Page, StorageState, async_playwright

from support.components import require

ROOT = Path(__file__).parents[2]
AXE = ROOT / ".cache" / "console" / "axe.min.js"
SERIOUS = ("serious", "critical")
WIDTHS = (360, 800, 1400)
TIMEOUT = 60_000
"""Milliseconds; machines of tests are slow."""


def chromium() -> str:
    """Returns the path of the browser; skips the test without one, and without axe-core."""
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    require("chromium", found)
    require("axe-core for chromium (make console-axe)", AXE.exists())
    assert found is not None
    return found


@dataclass
class Watched:
    """A browser whose pages must ask no other host, log no error and break no rule of their policy.

    With `loses_connections`, errors are logged: the test stops what pages are connected to.
    """

    browser: Browser
    folder: Path
    faults: list[str] = field(default_factory=list)
    loses_connections: bool = False

    async def page(
        self,
        *,
        width: int = 1400,
        scheme: str = "light",
        state: StorageState | None = None,
        timezone: str = "UTC",
    ) -> Page:
        """Opens a page in a context of its own."""
        given: dict[str, Any] = {"color_scheme": scheme, "timezone_id": timezone}
        context: BrowserContext = await self.browser.new_context(
            viewport={"width": width, "height": 900}, storage_state=state, bypass_csp=False, **given
        )
        context.set_default_timeout(TIMEOUT)
        page = await context.new_page()
        page.on("console", lambda message: self._logged(page, message.type, message.text))
        page.on("pageerror", lambda error: self.faults.append(f"{page.url}: {error}"))
        page.on("request", lambda request: self._asked(request.url))
        return page

    def _logged(self, page: Page, kind: str, text: str) -> None:
        is_expected = "status of 4" in text or self.loses_connections
        if kind in ("error", "warning") and not is_expected:
            self.faults.append(f"{page.url}: {text}")

    def _asked(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:", "blob:")):
            self.faults.append(f"asks {url}")

    async def check(self, page: Page, name: str) -> None:
        """Takes a screenshot and runs axe-core, whose script comes through the debugger and not the page."""
        await page.screenshot(path=self.folder / f"{name}.png", full_page=True)
        await page.evaluate(AXE.read_text())
        found = await page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        self.faults += [
            f"{name}: {each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
            for each in found["violations"]
            if each["impact"] in SERIOUS
        ]
        too_wide = await page.evaluate("document.documentElement.scrollWidth > innerWidth")
        if too_wide:
            self.faults.append(f"{name}: is wider than the window")


@asynccontextmanager
async def watched(folder: Path) -> AsyncIterator[Watched]:
    """Runs the browser inside the block, and fails the test for what its pages did."""
    program = chromium()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        try:
            found = Watched(browser, folder)
            yield found
        finally:
            await browser.close()
    if found.faults:
        pytest.fail("\n".join(dict.fromkeys(found.faults)))
