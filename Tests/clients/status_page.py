#!/usr/bin/env python3
"""Uses the status page as a person does, in a headless Chromium that is driven over its debugging protocol.

    status_page.py http://127.0.0.1:8501 [--chromium PROGRAM] [--pictures FOLDER]

Needs websocket-client. The server must have at least one model; where a model takes pictures of 28 x 28, one is drawn.
"""
import argparse
import base64
import json
import os
import struct
import subprocess
import tempfile
import time
import urllib.request
import zlib

import websocket


class Browser:
    def __init__(self, program, folder):
        self.process = subprocess.Popen(
            [program, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--remote-allow-origins=*",
             f"--user-data-dir={folder}", "--window-size=1280,900", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port_file = os.path.join(folder, "DevToolsActivePort")
        end = time.time() + 60
        while not os.path.exists(port_file) or not open(port_file).read().strip():
            assert time.time() < end and self.process.poll() is None, "the browser did not start"
            time.sleep(0.1)
        port = open(port_file).read().split()[0]
        pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10))
        address = next(page for page in pages if page["type"] == "page")["webSocketDebuggerUrl"]
        self.socket = websocket.create_connection(address, timeout=60)
        self.number = 0
        self.problems, self.requests = [], []
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def call(self, method, **parameters):
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self.socket.recv())
            if message.get("id") == self.number:
                assert "error" not in message, f"{method}: {message['error']}"
                return message["result"]
            self.note(message)

    def note(self, message):
        method, data = message.get("method"), message.get("params", {})
        if method == "Runtime.exceptionThrown":
            self.problems.append(json.dumps(data["exceptionDetails"])[:600])
        elif method == "Log.entryAdded" and data["entry"]["level"] == "error":
            entry = data["entry"]
            # A refused request is what one of the checks asks for.
            if entry.get("source") != "network" or "status of 4" not in entry["text"]:
                self.problems.append(entry["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(data["request"]["url"])

    def run(self, script):
        result = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def wait(self, script, what, seconds=30):
        end = time.time() + seconds
        while True:
            value = self.run(script)
            if value:
                return value
            assert time.time() < end, f"waited in vain: {what}"
            time.sleep(0.1)

    def picture(self, folder, name):
        if not folder:
            return
        data = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)["data"]
        with open(os.path.join(folder, name + ".png"), "wb") as file:
            file.write(base64.b64decode(data))

    def size(self, width, height):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 500)

    def close(self):
        self.socket.close()
        self.process.terminate()
        self.process.wait(timeout=20)


def png(path, size=64):
    """A white disc on black."""
    rows = b""
    for y in range(size):
        rows += b"\0" + bytes(255 if (x - 32) ** 2 + (y - 32) ** 2 < 400 else 0 for x in range(size) for _ in range(3))

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    with open(path, "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", size, size, 8, 2, 0, 0, 0))
                   + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b""))


ANSWER = "document.querySelector('.answer .badge')?.textContent"
FIRST_VALUES = "[...document.querySelectorAll('.answer .values td')].slice(0, 10).map(td => td.textContent).join()"


def choose(browser, field, value):
    browser.run(f"(() => {{ const s = document.querySelector('#{field}'); s.value = {json.dumps(value)};"
                " s.dispatchEvent(new Event('change')); })()")


def send(browser):
    browser.run("document.querySelector('.answer').replaceChildren(); document.querySelector('#try-send').click()")
    return browser.wait(ANSWER, "an answer")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("--chromium", default="chromium")
    parser.add_argument("--pictures")
    options = parser.parse_args()
    address = options.address.rstrip("/")
    with tempfile.TemporaryDirectory() as folder:
        browser = Browser(options.chromium, os.path.join(folder, "profile"))
        try:
            check(browser, address, options.pictures, folder)
        finally:
            browser.close()


def check(browser, address, pictures, folder):
    browser.size(1280, 900)
    browser.call("Page.navigate", url=address + "/")
    browser.wait("document.querySelector('#live')?.textContent === 'Live'", "the page to be live")
    models = browser.wait("[...document.querySelectorAll('[data-model] h2')].map(h => h.textContent)", "models")
    assert browser.run("document.querySelectorAll('.load dd').length") >= 6
    browser.run("document.querySelector('#tab-try').click()")

    drawn = 0
    for model in models:
        if not browser.run(f"[...document.querySelector('#try-model').options].some(o => o.value === {json.dumps(model)})"):
            continue
        choose(browser, "try-model", model)
        values = {}
        for api in ("v1", "v2"):
            choose(browser, "try-api", api)
            assert send(browser) == "OK", browser.run("document.querySelector('.answer').innerText")
            values[api] = browser.run(FIRST_VALUES)
        assert values["v1"] and values["v1"] == values["v2"], f"{model}: the protocols differ: {values}"
        browser.picture(pictures, f"try-{models.index(model)}")

        # What is wrong is said where it is, and by the server.
        area = "document.querySelector('textarea[data-input]')"
        browser.run(f"{area}.value = '[1, 2'")
        browser.run("document.querySelector('#try-send').click()")
        assert browser.wait("document.querySelector('.input p.error:not([hidden])')?.textContent", "a message").startswith("This is not JSON")
        browser.run(f"{area}.value = '[[[[[[[1]]]]]]]'")
        assert send(browser) == "status 400"
        assert browser.run("document.querySelector('.answer .failed').textContent.length") > 10

        if browser.run("!!document.querySelector('canvas.pad')"):
            browser.run("document.querySelector('.answer').replaceChildren(); document.querySelector('canvas.pad').scrollIntoView({block: 'center'})")
            box = browser.run("(b => [b.x, b.y, b.width, b.height])(document.querySelector('canvas.pad').getBoundingClientRect())")
            def at(kind, x, y):
                browser.call("Input.dispatchMouseEvent", type=kind, x=box[0] + x * box[2], y=box[1] + y * box[3],
                             button="left", buttons=1, clickCount=1)
            at("mousePressed", 0.3, 0.25)
            for i in range(1, 9):
                at("mouseMoved", 0.3 + 0.05 * i, 0.25)
            for i in range(1, 9):
                at("mouseMoved", 0.7 - 0.03 * i, 0.25 + 0.07 * i)
            at("mouseReleased", 0.46, 0.81)
            # The answer follows the drawing by itself.
            assert browser.wait(ANSWER, "an answer to the drawing") == "OK"
            lit = browser.run("(c => c.getContext('2d').getImageData(0, 0, c.width, c.height).data.filter((v, i) => i % 4 === 0 && v > 100).length)(document.querySelector('canvas.seen'))")
            assert lit > 10, f"the model sees {lit} lit pixels"
            browser.picture(pictures, "drawn")
            drawn += 1
        if browser.run("!!document.querySelector('.drop input[type=file]')"):
            path = os.path.join(folder, "disc.png")
            png(path)
            root = browser.call("DOM.getDocument")["root"]["nodeId"]
            node = browser.call("DOM.querySelector", nodeId=root, selector=".drop input[type=file]")["nodeId"]
            browser.call("DOM.setFileInputFiles", files=[path], nodeId=node)
            browser.wait("document.querySelector('textarea[data-input]').disabled", "the picture to be taken")
            assert send(browser) == "OK", browser.run("document.querySelector('.answer').innerText")
            browser.picture(pictures, f"picture-{models.index(model)}")

    browser.run("document.querySelector('#tab-requests').click()")
    browser.wait("document.querySelectorAll('#panel-requests table tr').length > 4", "the last requests")
    browser.picture(pictures, "requests")
    browser.run("document.querySelector('#tab-models').click()")
    browser.wait("document.querySelectorAll('.curves .bar').length > 0", "curves")
    browser.picture(pictures, "models")

    # On a phone nothing stands out to the side; dark where the system is.
    browser.size(390, 844)
    browser.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": "dark"}])
    browser.wait("document.documentElement.dataset.theme === 'dark'", "the dark look")
    for tab in ("models", "try", "requests"):
        browser.run(f"document.querySelector('#tab-{tab}').click()")
        time.sleep(0.5)
        width = browser.run("document.documentElement.scrollWidth")
        assert width <= 390, f"{tab} is {width} wide"
        browser.picture(pictures, f"phone-{tab}")

    assert not browser.problems, browser.problems
    elsewhere = [url for url in browser.requests if not url.startswith((address, "data:", "about:", "blob:"))]
    assert not elsewhere, elsewhere
    print(f"ok: {len(models)} models, {drawn} drawings, {len(browser.requests)} requests, none elsewhere, no errors")


main()
