"""A browser page whose requests and messages are recorded."""

from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, Page, expect


class Watched:
    """Playwright's page, with what it asked for and what it complained about."""

    def __init__(self, page: Page, url: str, *, waits: bool = True) -> None:
        self._page, self._url = page, url
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.dialogs: list[str] = []
        self._handlers = {
            "request": lambda request: self.requests.append(request.url),
            "console": lambda message: self._told(message.type, message.text),
            "pageerror": lambda error: self.complaints.append(str(error)),
            "dialog": self._dialog,
        }
        for event, handler in self._handlers.items():
            page.on(event, handler)
        page.set_default_timeout(15_000)
        page.goto(url)
        if waits:
            expect(page.locator("#model option")).not_to_have_count(0)

    def __getattr__(self, name: str):
        return getattr(self._page, name)

    def send(self, text: str) -> None:
        """Write a message and send it with the keyboard."""
        box = self._page.get_by_label("Message", exact=True)
        box.fill(text)
        box.press("Enter")

    def ask(self, text: str):
        """Send a message and wait for the whole answer; returns the answer's article."""
        before = self._page.locator("article.assistant").count()
        self.send(text)
        answer = self._page.locator("article.assistant").nth(before)
        expect(answer).not_to_have_attribute("aria-busy", "true")
        expect(answer.get_by_role("button", name="Copy")).to_be_visible()
        return answer

    def check(self) -> None:
        """Nothing was asked of anybody else, nothing was complained about, and nothing popped up."""
        host = urlsplit(self._url).netloc
        others = [url for url in self.requests if urlsplit(url).netloc != host and not url.startswith("blob:")]
        assert (others, self.complaints, self.dialogs) == ([], [], [])

    def leave(self) -> None:
        """Leave the page, and all that it stored, so that the tab can be used again."""
        self._page.goto(f"{self._url}/health")  # a page that is left stores its conversation
        self._page.evaluate("() => { localStorage.clear(); sessionStorage.clear(); }")
        self._page.goto("about:blank")
        self._page.mouse.move(0, 0)
        for event, handler in self._handlers.items():
            self._page.remove_listener(event, handler)

    def _told(self, kind: str, text: str) -> None:
        # The page reports errors of the server to the user; the browser logs them too.
        if kind in ("error", "warning") and not text.startswith("Failed to load resource"):
            self.complaints.append(text)

    def _dialog(self, dialog) -> None:
        self.dialogs.append(dialog.message)
        dialog.dismiss()


def watched(context: BrowserContext, url: str, *, waits: bool = True) -> Watched:
    """Open the page, and wait until it knows the server's models."""
    return Watched(context.new_page(), url, waits=waits)
