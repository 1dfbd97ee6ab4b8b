#!/usr/bin/env python3
"""Opens the pages of a folder in headless Chromium and holds them against what is promised: open in less than a second, less
than 2 MB, nothing on the console, nothing wider than a phone or a desk. Leaves pictures beside them: light, dark, phone,
unfolded, printed."""

import html
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

LONGEST_MS, LARGEST = 1000, 2_000_000
WIDTHS = {"phone": 375, "desk": 1440}

# Runs before all of the page: what goes wrong, how long it takes until all is laid out, what sticks out.
PROBE = """<script>
window.wrong = [];
addEventListener("error", (e) => wrong.push(String(e.message || e.target.src)), true);
addEventListener("securitypolicyviolation", (e) => wrong.push("policy: " + e.violatedDirective));
for (const level of ["error", "warn"]) console[level] = (...what) => wrong.push(what.join(" "));
addEventListener("load", () => {
  document.body.offsetHeight;
  const ms = performance.now(), unfold = UNFOLD;
  if (unfold) for (const d of document.querySelectorAll("details")) d.open = true;
  const input = document.querySelector("input"), square = document.querySelector(".grid i");
  const search = (text) => { input.value = text; input.dispatchEvent(new Event("input")); };
  if (input) search("MatMul");
  const hits = document.querySelectorAll(".grid i.hit").length;
  if (square) square.dispatchEvent(new PointerEvent("pointerover", { bubbles: true }));
  const pointed = (document.querySelector(".map .readout") || {}).textContent || "";
  if (input && !unfold) search("");
  document.documentElement.dataset.probe = JSON.stringify({
    ms, hits, pointed, wrong, inner: innerWidth, scroll: document.documentElement.scrollWidth });
});
</script>"""

# A window is never as narrow as a phone, and a frame is.
FRAME = """<!doctype html><style>body { margin: 0 } iframe { border: 0 }</style>
<iframe width="WIDTH" height="HEIGHT" srcdoc="PAGE" onload="
document.documentElement.dataset.probe = this.contentDocument.documentElement.dataset.probe"></iframe>"""


def chromium(*flags):
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if not program:
        sys.exit("there is no Chromium: apt-get install chromium")
    command = [program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--force-device-scale-factor=1"]
    done = subprocess.run([*command, *flags], capture_output=True, text=True, timeout=120)
    if done.returncode:
        sys.exit(f"Chromium failed: {done.stderr[-2000:]}")
    return done.stdout


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    pictures = folder / "pictures"
    pictures.mkdir(exist_ok=True)
    bad = []
    for page in sorted(folder.glob("*.html")):
        text = page.read_text()
        if len(text.encode()) >= LARGEST:
            bad.append(f"{page.name} has {len(text.encode())} bytes")
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            for name, width in WIDTHS.items():
                for unfold in [False, True]:
                    view = f"{page.stem}-{name}{'-unfolded' if unfold else ''}"
                    high = 7000 if unfold else 3000
                    probed = text.replace("<head>", "<head>" + PROBE.replace("UNFOLD", str(unfold).lower()), 1)
                    frame = FRAME.replace("WIDTH", str(width)).replace("HEIGHT", str(high))
                    probe = pathlib.Path(scratch) / f"{view}.html"
                    probe.write_text(frame.replace("PAGE", html.escape(probed)))
                    dom = chromium("--dump-dom", f"file://{probe}")
                    found = re.search(r'<html[^>]* data-probe="([^"]*)"', dom)
                    if not found:
                        bad.append(f"{view} does not load")
                        continue
                    found = json.loads(html.unescape(found.group(1)))
                    print(f"{view}: {found['ms']:.0f} ms, {found['hits']} nodes found")
                    wrong = list(found["wrong"])
                    if found["ms"] >= LONGEST_MS:
                        wrong.append(f"takes {found['ms']:.0f} ms")
                    if found["inner"] != width or found["scroll"] > width:
                        wrong.append(f"is {found['scroll']} px wide at {found['inner']}")
                    if 'class="grid"' in text and ("Decided by" not in found["pointed"] or not found["hits"]):
                        wrong.append(f"cannot be pointed at or searched: {found}")
                    bad += [f"{view}: {what}" for what in wrong]
                    picture = pictures / f"{view}.png"
                    chromium(f"--window-size={max(width, 500)},{high}", f"--screenshot={picture}", f"file://{probe}")
            dark = pictures / f"{page.stem}-dark.png"
            chromium("--window-size=1440,2600", "--blink-settings=preferredColorScheme=0", f"--screenshot={dark}", f"file://{page}")
            chromium(f"--print-to-pdf={pictures / page.stem}.pdf", "--no-pdf-header-footer", f"file://{page}")
    for what in bad:
        print(f"bad: {what}", file=sys.stderr)
    sys.exit(1 if bad else 0)


main()
