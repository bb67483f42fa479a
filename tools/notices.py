#!/usr/bin/env python3
"""Writes assets/notices.txt: which crates are linked into the program, and their licences, as `simmim-tui --licenses` prints them.

    python3 tools/notices.py            writes assets/notices.txt
    python3 tools/notices.py --check    says whether assets/notices.txt is up to date

It asks `cargo tree` for what the default features link on Linux, on x86-64 and ARM, without build scripts, tests and procedural macros.
Of a crate with a choice of licences it takes the first of CHOICES that the crate offers, and prints that text from the crate's own package;
a crate that ships no text gets the standard one with its authors. A licence that CHOICES doesn't name is an error: deny.toml decides about it.
"""

import argparse
import collections
import json
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
TARGET = ROOT / "assets/notices.txt"
SYSTEMS = ["x86_64-unknown-linux-gnu", "aarch64-unknown-linux-gnu"]
# Licences in the order of preference, with a word of the names of files that hold their text.
CHOICES = {
    "MIT": "mit", "BSD-2-Clause": "bsd", "BSD-3-Clause": "bsd", "ISC": "isc", "Zlib": "zlib", "BSL-1.0": "bsl|boost",
    "Apache-2.0": "apache", "Unicode-3.0": "unicode", "MPL-2.0": "mpl", "LGPL-3.0-or-later": "lgpl|lesser",
}
# Texts that lie deeper in a crate's package, and one that the LGPL asks for beside its own.
DEEPER = {"zstd-sys": ["zstd/LICENSE"]}
GPL = ROOT / "assets/GPL-3.0.txt"
RULE = "=" * 100
HEAD = """Notices of the crates that are linked into simmim-tui

simmim-tui itself is under the MIT or the Apache 2.0 licence, at your choice. The crates below are linked into its binary, each under the
licence that is named beside it. Their texts follow.

ansi_colours (through viuer) is under the LGPL 3.0 or later, and colored and option-ext are under the MPL 2.0. They are unchanged, and their
source is what Cargo downloads for the versions below. To link the program with a changed ansi_colours, take the source of simmim-tui at the commit that
`simmim-tui --version` names, add to Cargo.toml

    [patch.crates-io]
    ansi_colours = { path = "YOUR COPY" }

and run `cargo build --release`: nothing else is needed.
"""


def linked():
    """Returns the packages that are linked on any of SYSTEMS, by name and version."""
    named, packages = set(), {}
    for system in SYSTEMS:
        listing = ["cargo", "tree", "--locked", "--target", system, "--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]
        lines = output(listing).splitlines()
        named |= {tuple(re.match(r"(\S+) v(\S+)", line).groups()) for line in lines if line and "proc-macro" not in line}
        data = json.loads(output(["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", system]))
        packages |= {(package["name"], package["version"]): package for package in data["packages"]}
    return {key: packages[key] for key in sorted(named) if key[0] != "simmim-tui"}


def output(command):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def chosen(package):
    """Returns the licences of a package that are to be named: one of each choice."""
    expression = (package["license"] or "").replace("/", " OR ")
    licences = []
    for part in re.split(r"\bAND\b", expression):
        offered = [word.strip(" ()") for word in re.split(r"\bOR\b", part)]
        offered = [word for word in CHOICES if word in offered]
        if not offered:
            sys.exit(f"{package['name']} {package['version']}: no licence of {expression!r} is known to tools/notices.py")
        licences.append(offered[0])
    return licences


def texts(package, licences):
    """Returns the texts of licences and notices in the package of a crate, or the standard ones."""
    folder = pathlib.Path(package["manifest_path"]).parent
    files = sorted(path for path in folder.iterdir() if path.is_file() and re.match(r"(?i)(licen[cs]e|copying|unlicense)", path.name))
    found = [path for path in sorted(folder.iterdir()) if path.is_file() and re.match(r"(?i)notice", path.name)]
    found += [folder / path for path in DEEPER.get(package["name"], [])]
    found += [GPL] if "LGPL-3.0-or-later" in licences else []
    for licence in licences:
        named = [path for path in files if re.search(CHOICES[licence], path.name, re.I)]
        plain = [path for path in files if not re.search("|".join(CHOICES.values()), path.name, re.I)]
        found += named[:1] or plain[:1]
    if found:
        return [path.read_text("utf-8", "replace") for path in dict.fromkeys(found)]
    holder = ", ".join(re.sub(r" *<[^>]*>", "", author) for author in package["authors"]) or f"the authors of {package['name']}"
    return [standard(licence, holder) for licence in licences]


def standard(licence, holder):
    """Returns the standard text of a licence, of a crate that ships none."""
    known = {
        "MIT": ROOT / "LICENSE-MIT",
        "Apache-2.0": ROOT / "LICENSE-APACHE",
    }
    if licence not in known:
        return f"{licence}, https://spdx.org/licenses/{licence}.html\nCopyright (c) {holder}"
    text = known[licence].read_text()
    return re.sub(r"(?m)^Copyright .*$", f"Copyright (c) {holder}", text, count=1) if licence == "MIT" else text


def cleaned(text):
    """Returns a text without spaces at the ends of lines and empty lines at its ends."""
    return "\n".join(line.rstrip() for line in text.replace("\r\n", "\n").strip("\n").expandtabs().splitlines())


def notices():
    packages = linked()
    lines = [f"{name} {version}  {' AND '.join(chosen(package))}" for (name, version), package in packages.items()]
    users = collections.defaultdict(list)
    for (name, version), package in packages.items():
        for text in texts(package, chosen(package)):
            users[cleaned(text)].append(f"{name} {version}")
    parts = [HEAD, "\n".join(lines) + "\n"]
    for text, names in sorted(users.items(), key=lambda item: item[1]):
        parts.append(f"{RULE}\n{', '.join(dict.fromkeys(names))}\n\n{text}\n")
    return "\n".join(parts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="say whether the file is up to date")
    text = notices()
    if not parser.parse_args().check:
        TARGET.write_text(text)
        print(f"{TARGET.relative_to(ROOT)}: {len(text)} bytes")
    elif not TARGET.exists() or TARGET.read_text() != text:
        sys.exit(f"{TARGET.relative_to(ROOT)} is out of date: run python3 tools/notices.py")


if __name__ == "__main__":
    main()
