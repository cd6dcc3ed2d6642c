"""A headless Chromium, spoken to over a pipe: no driver, no other package.

    with Browser() as browser:
        page = browser.open(Path("report.html"), width=390, height=844, dark=True)
        page.value("document.title")
        page.picture(Path("report.png"))
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")

FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def find():
    """The path of a Chromium, or nothing."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Browser:
    def __enter__(self):
        program = find()
        if program is None:
            raise SystemExit("there is no Chromium: install the package chromium")
        self.profile = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        # The browser reads commands from descriptor 3 and answers on 4.
        read_command, self.commands = os.pipe()
        self.answers, write_answer = os.pipe()
        for descriptor in (read_command, write_answer):
            os.set_inheritable(descriptor, True)
        self.process = subprocess.Popen(
            ["bash", "-c", f'exec "$0" "$@" 3<&{read_command} 4>&{write_answer}', program, *FLAGS,
             f"--user-data-dir={self.profile.name}", "about:blank"],
            close_fds=False, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        os.close(read_command)
        os.close(write_answer)
        self.buffer = b""
        self.number = 0
        self.events = []
        return self

    def __exit__(self, *_):
        try:
            self.call("Browser.close")
        except (OSError, EOFError):
            pass
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.profile.cleanup()

    def message(self):
        """The next message of the browser; messages end with a zero byte."""
        while b"\0" not in self.buffer:
            some = os.read(self.answers, 1 << 20)
            if not some:
                raise EOFError("the browser has ended")
            self.buffer += some
        text, self.buffer = self.buffer.split(b"\0", 1)
        return json.loads(text)

    def call(self, method, session=None, **parameters):
        """Calls a method of the DevTools protocol; events that come meanwhile are kept."""
        self.number += 1
        command = {"id": self.number, "method": method, "params": parameters}
        if session:
            command["sessionId"] = session
        os.write(self.commands, json.dumps(command).encode() + b"\0")
        while True:
            message = self.message()
            if message.get("id") == self.number:
                if "error" in message:
                    raise RuntimeError(f"{method}: {message['error']['message']}")
                return message["result"]
            if "method" in message:
                self.events.append(message)

    def open(self, file, width, height, dark=False):
        """Opens a file in a page of its own, as a screen of this size shows it."""
        return Page(self, file, width, height, dark)


class Page:
    def __init__(self, browser, file, width, height, dark):
        self.browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        self.session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)
        scheme = "dark" if dark else "light"
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
        self.url = file.resolve().as_uri()
        browser.events.clear()
        self.call("Page.navigate", url=self.url)
        while not any(event["method"] == "Page.loadEventFired" for event in self.events()):
            browser.events.append(browser.message())

    def call(self, method, **parameters):
        return self.browser.call(method, self.session, **parameters)

    def events(self):
        """What has happened in this page."""
        return [event for event in self.browser.events if event.get("sessionId") == self.session]

    def value(self, expression):
        """The value of a JavaScript expression, which must be JSON."""
        result = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in result:
            raise RuntimeError(result["exceptionDetails"].get("exception", {}).get("description", str(result)))
        return result["result"].get("value")

    def complaints(self):
        """What the console says, and what was not caught."""
        said = []
        for event in self.events():
            parameters = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                said.append(parameters["exceptionDetails"]["text"])
            elif event["method"] == "Runtime.consoleAPICalled":
                said.append(" ".join(str(argument.get("value")) for argument in parameters["args"]))
            elif event["method"] == "Log.entryAdded":
                said.append(parameters["entry"]["text"])
        return said

    def requests(self):
        """The addresses that were asked for, but for the page itself."""
        asked = (event["params"]["request"]["url"] for event in self.events()
                 if event["method"] == "Network.requestWillBeSent")
        return [url for url in asked if url != self.url]

    def picture(self, file, whole=True, clip=None):
        """Writes a PNG of the whole page, of its first screen, or of a part (x, y, width, height)."""
        parameters = {"captureBeyondViewport": whole or clip is not None}
        if clip is not None:
            parameters["clip"] = dict(zip(("x", "y", "width", "height"), clip)) | {"scale": 1}
        elif whole:
            size = self.call("Page.getLayoutMetrics")["cssContentSize"]
            parameters["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
        data = self.call("Page.captureScreenshot", format="png", **parameters)["data"]
        Path(file).write_bytes(base64.b64decode(data))

    def close(self):
        self.call("Page.close")
