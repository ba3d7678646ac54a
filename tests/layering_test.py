#!/usr/bin/env python3
"""Includes follow the direction of the design, in every folder."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
CORE = {"base", "proto"}
ALLOWED = {
    "base": set(),
    "features": CORE,
    "model": CORE | {"features"},
    "storage": CORE,
    "trainer": CORE | {"features", "model", "storage"},
    "server": CORE | {"features", "model", "storage"},
    "tools": CORE | {"features", "model", "storage"},
}
FOLDERS = set(ALLOWED) | {"proto", "tests", "bench", "deploy"}
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"/]+)/[^"]*"', re.M)


def main():
    wrong, files = [], 0
    for folder, allowed in ALLOWED.items():
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".h", ".cc", ".cu"):
                continue
            files += 1
            text = path.read_text()
            for target in INCLUDE.findall(text):
                if target in FOLDERS - allowed - {folder}:
                    wrong.append(f"{path.relative_to(ROOT)}: {folder} may not "
                                 f"include {target}")
            if folder != "storage" and re.search(r"#include\s*<rocksdb/", text):
                wrong.append(f"{path.relative_to(ROOT)}: only storage knows "
                             "RocksDB")
    for proto in (ROOT / "proto").glob("*.proto"):
        for target in re.findall(r'^import "([^"/]+)/', proto.read_text(), re.M):
            if target not in ("proto", "google"):
                wrong.append(f"{proto.name}: imports {target}")
    print("\n".join(wrong))
    print(f"layering: {files} files, {len(wrong)} wrong")
    return 1 if wrong or files == 0 else 0


if __name__ == "__main__":
    sys.exit(main())
