#!/usr/bin/env python3
"""Renders docs/dashboard.png and docs/help.png from a real run inside tmux.

    python3 tools/screenshots.py [target/release/simmim-tui]

Needs tmux and Pillow. The run is in a temporary folder and is stopped at the end.
"""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

COLUMNS, ROWS = 100, 32
TRAIN_S = 40
CELL_W, CELL_H, FONT_SIZE = 10, 20, 16
FONTS = Path("/usr/share/fonts/truetype/dejavu")
ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"

BASIC = [
    (0, 0, 0), (205, 49, 49), (13, 188, 121), (229, 229, 16), (36, 114, 200), (188, 63, 188), (17, 168, 205),
    (204, 204, 204), (102, 102, 102), (241, 76, 76), (35, 209, 139), (245, 245, 67), (59, 142, 234), (214, 112, 214),
    (41, 184, 219), (255, 255, 255),
]
FOREGROUND, BACKGROUND = (204, 204, 204), (16, 18, 22)


def palette(index):
    """The xterm palette of 256."""
    if index < 16:
        return BASIC[index]
    if index >= 232:
        return (8 + 10 * (index - 232),) * 3
    index -= 16
    return tuple(0 if i == 0 else 55 + 40 * i for i in (index // 36, index // 6 % 6, index % 6))


class Style:
    def __init__(self):
        self.reset()

    def reset(self):
        self.fg = self.bg = None
        self.bold = self.dim = self.reverse = self.underline = False

    def apply(self, codes):
        codes = codes or [0]
        while codes:
            code = codes.pop(0)
            if code == 0:
                self.reset()
            elif code in (1, 2, 4, 7):
                setattr(self, {1: "bold", 2: "dim", 4: "underline", 7: "reverse"}[code], True)
            elif code == 22:
                self.bold = self.dim = False
            elif code == 24:
                self.underline = False
            elif code == 27:
                self.reverse = False
            elif code in (38, 48):
                kind = codes.pop(0)
                if kind == 5:
                    color = palette(codes.pop(0))
                else:
                    color, codes[:3] = tuple(codes[:3]), []
                setattr(self, "fg" if code == 38 else "bg", color)
            elif code in (39, 49):
                setattr(self, "fg" if code == 39 else "bg", None)
            elif 30 <= code <= 37:
                self.fg = BASIC[code - 30]
            elif 90 <= code <= 97:
                self.fg = BASIC[code - 82]
            elif 40 <= code <= 47:
                self.bg = BASIC[code - 40]
            elif 100 <= code <= 107:
                self.bg = BASIC[code - 92]

    def colors(self):
        fg, bg = self.fg or FOREGROUND, self.bg or BACKGROUND
        if self.dim:
            fg = tuple((2 * a + b) // 3 for a, b in zip(fg, bg))
        return (bg, fg) if self.reverse else (fg, bg)


def cells(ansi):
    """Yields column, row, character, colours and style of each cell."""
    style = Style()
    for row, line in enumerate(ansi.split("\n")[:ROWS]):
        column = 0
        for escape, char in re.findall(r"\x1b\[([\d;:]*)m|(\x0e|\x0f|[^\x1b])", line):
            if char:
                if char not in "\x0e\x0f":
                    yield column, row, char, style.colors(), style
                    column += 1
            else:
                style.apply([int(code or 0) for code in re.split("[;:]", escape)])


# Arms of line drawing characters: left, right, up, down.
LINES = {
    "─": "lr", "│": "ud", "┌": "rd", "┐": "ld", "└": "ru", "┘": "lu", "┤": "lud", "├": "rud", "┬": "lrd", "┴": "lru",
    "┼": "lrud", "╵": "u", "╷": "d", "╴": "l", "╶": "r",
}
# Dots of braille: column, row, in the order of the bits.
DOTS = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3)]


def font(bold):
    path = FONTS / ("DejaVuSansMono-Bold.ttf" if bold else "DejaVuSansMono.ttf")
    return ImageFont.truetype(str(path), FONT_SIZE) if path.exists() else ImageFont.load_default(FONT_SIZE)


def draw_cell(draw, fonts, x, y, char, fg, bg, style):
    w, h = CELL_W, CELL_H
    draw.rectangle((x, y, x + w - 1, y + h - 1), fill=bg)
    code = ord(char)
    if char == " ":
        pass
    elif char in "▀▄█":
        top = y + h // 2 if char == "▄" else y
        bottom = y + h // 2 if char == "▀" else y + h
        draw.rectangle((x, top, x + w - 1, bottom - 1), fill=fg)
    elif 0x2581 <= code <= 0x2587:  # bars from below, in eighths
        draw.rectangle((x, y + h - h * (code - 0x2580) // 8, x + w - 1, y + h - 1), fill=fg)
    elif char in "░▒▓":
        share = {"░": 1, "▒": 2, "▓": 3}[char]
        fill = tuple((a * share + b * (4 - share)) // 4 for a, b in zip(fg, bg))
        draw.rectangle((x, y, x + w - 1, y + h - 1), fill=fill)
    elif 0x2800 <= code <= 0x28FF:
        for bit, (dx, dy) in enumerate(DOTS):
            if (code - 0x2800) >> bit & 1:
                left, top = x + dx * w // 2 + 1, y + dy * h // 4 + 1
                draw.rectangle((left, top, left + 2, top + 2), fill=fg)
    elif char in LINES:
        middle_x, middle_y = x + w // 2, y + h // 2
        ends = {"l": (x, middle_y), "r": (x + w - 1, middle_y), "u": (middle_x, y), "d": (middle_x, y + h - 1)}
        for arm in LINES[char]:
            draw.line((middle_x, middle_y, *ends[arm]), fill=fg)
    else:
        draw.text((x, y + 1), char, font=fonts[style.bold], fill=fg)
    if style.underline:
        draw.line((x, y + h - 2, x + w - 1, y + h - 2), fill=fg)


def render(ansi, path):
    margin = 8
    size = (COLUMNS * CELL_W + 2 * margin, ROWS * CELL_H + 2 * margin)
    image = Image.new("RGB", size, BACKGROUND)
    draw, fonts = ImageDraw.Draw(image), [font(False), font(True)]
    for column, row, char, (fg, bg), style in cells(ansi):
        draw_cell(draw, fonts, margin + column * CELL_W, margin + row * CELL_H, char, fg, bg, style)
    # 256 colours are enough for this many cells and make a small file.
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size} bytes")


def main():
    binary = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "target/release/simmim-tui").resolve()
    with tempfile.TemporaryDirectory() as folder:
        def tmux(*arguments):
            command = ["tmux", "-S", os.path.join(folder, "socket"), "-f", "/dev/null", *arguments]
            return subprocess.run(command, check=True, capture_output=True, text=True).stdout

        def screen():
            return tmux("capture-pane", "-p", "-t", "shot")

        def wait_for(text, seconds=120):
            end = time.monotonic() + seconds
            while text not in screen():
                if time.monotonic() > end:
                    sys.exit(f"waited in vain for {text!r}:\n{screen()}")
                time.sleep(0.2)

        env = ["-e", "COLORTERM=truecolor", "-e", "LC_ALL=C.UTF-8", "-e", "NO_COLOR="]
        tmux("start-server", ";", "set", "-g", "default-terminal", "xterm-256color", ";",
             "set", "-as", "terminal-features", ",*:RGB", ";", "set", "-g", "remain-on-exit", "on", ";",
             "new-session", "-d", "-s", "shot", "-x", str(COLUMNS), "-y", str(ROWS), "-c", folder, *env, str(binary))
        try:
            wait_for("reconstruction")
            time.sleep(TRAIN_S)
            wait_for("● running")
            render(tmux("capture-pane", "-e", "-p", "-t", "shot"), DOCS / "dashboard.png")
            tmux("send-keys", "-t", "shot", "?")
            wait_for("this help")
            render(tmux("capture-pane", "-e", "-p", "-t", "shot"), DOCS / "help.png")
            tmux("send-keys", "-t", "shot", "Escape")
            time.sleep(0.3)
            tmux("send-keys", "-t", "shot", "q")
            wait_for("leave?")
            tmux("send-keys", "-t", "shot", "s")
            wait_for("stopped")
        finally:
            tmux("kill-server")


if __name__ == "__main__":
    main()
