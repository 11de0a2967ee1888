"""Inside the `browser` environment: pages as a person sees them, and the text that is visible on each.

    python shoot.py CHROMIUM PAGES.json OUT     PAGES.json: [{"name", "url", "shows": [...], "clicks": [...]}]

Writes OUT/NAME.png and prints JSON, the visible text by name. Waits for each text of `shows` before it looks.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from playwright.sync_api import Error, Page, sync_playwright

LIMIT_MS, SIZE = 60_000, {"width": 1600, "height": 1000}
ASSISTANT = "[data-component-id='assistant.chat_panel.close']"
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-proxy-server"]


def main() -> None:
    chromium, pages, out = sys.argv[1], json.loads(Path(sys.argv[2]).read_text()), Path(sys.argv[3])
    out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=FLAGS)
        context = browser.new_context(viewport=SIZE)
        seen = {each["name"]: look(context.new_page(), each, out) for each in pages}
        browser.close()
    print(json.dumps(seen))  # noqa: T201


def look(page: Page, wanted: dict[str, Any], out: Path) -> str:
    """Open, click, wait, shoot."""
    try:
        page.goto(wanted["url"], timeout=LIMIT_MS)
        for selector in wanted.get("clicks", ()):
            page.locator(selector).first.click(timeout=LIMIT_MS)
        for text in wanted["shows"]:
            visible(page, text)
        for unasked in page.locator(ASSISTANT).all():
            unasked.click()
        page.wait_for_timeout(wanted.get("settle_ms", 1500))
    except Error as error:
        print(f"{wanted['name']}: {error}", file=sys.stderr)  # noqa: T201
    page.screenshot(path=out / f"{wanted['name']}.png")
    text = "\n".join(frame.locator("body").inner_text() for frame in page.frames)
    page.close()
    return text


def visible(page: Page, text: str) -> None:
    """Return when the page, or a frame in it, shows the text."""
    for _ in range(LIMIT_MS // 250):
        if any(frame.get_by_text(text).locator("visible=true").count() for frame in page.frames):
            return
        page.wait_for_timeout(250)
    raise Error(f"does not show {text!r}")


if __name__ == "__main__":
    main()
