"""Takes the pictures of the console for the pages: `make screenshots`. Needs Chromium on PATH."""

import asyncio
import shutil
import sys
import tempfile
from pathlib import Path

from playwright.async_api import Page, async_playwright
from scene import Scene, scene

PICTURES = Path(__file__).parent
WARM_UP_SECONDS = 75
"""The seconds for which events come before, so that there are curves."""


async def take(running: Scene, page: Page) -> None:
    """Takes the pictures of an overview, of a failing subscription, and of an event, narrow and dark."""
    await page.goto(running.link())
    await page.get_by_role("button", name="Open the console").click()
    await page.locator(".chart canvas").first.wait_for()
    await page.screenshot(path=PICTURES / "overview.png")
    await page.get_by_role("link", name="/assets/broken").first.click()
    await page.locator(".chart canvas").first.wait_for()
    await page.screenshot(path=PICTURES / "subscription.png")
    await page.set_viewport_size({"width": 390, "height": 844})
    await page.emulate_media(color_scheme="dark")
    await page.get_by_role("link", name="Events", exact=True).click()
    await page.locator("tbody a").first.click()
    await page.screenshot(path=PICTURES / "event.png")


async def main() -> None:
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        sys.exit("make screenshots: needs chromium on PATH")
    with tempfile.TemporaryDirectory() as folder:
        async with scene(Path(folder)) as running, async_playwright() as playwright:
            for _ in range(WARM_UP_SECONDS):
                await running.emit(3)
                await asyncio.sleep(1)
            browser = await playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
            await take(running, await browser.new_page(viewport={"width": 1200, "height": 800}))
            await browser.close()


if __name__ == "__main__":
    asyncio.run(main())
