"""What an import of iPinYou's raw logs must count, by other means: plain Python
over the lines of the files."""
import datetime
import gzip
import math
import re

MISSING = (b"", b"null", b"NULL")


def _number(text, low):
    try:
        value = float(text)
    except ValueError:
        return False
    return math.isfinite(value) and value >= low


def _good_time(text):
    if not re.fullmatch(rb"\d{17}|\d{14}|\d{12}|\d{10}|\d{8}", text):
        return False
    whole = text[:14].decode().ljust(14, "0")
    try:
        return datetime.datetime.strptime(whole, "%Y%m%d%H%M%S").year >= 1970
    except ValueError:
        return False


def _good(line, click):
    c = line.split(b"\t")
    if len(c) != 24 or c[0] in MISSING or not _good_time(c[1]):
        return False
    if click:
        return True
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return (c[18] not in MISSING and
            all(len(c[i]) <= 128 for i in (12, 18, 22)) and
            (c[17] in MISSING or _number(c[17], -math.inf)) and
            all(c[i] in MISSING or _number(c[i], 0) for i in (19, 20)))


def _lines(path):
    opened = gzip.open(path) if path.endswith(".gz") else open(path, "rb")
    with opened as f:
        for line in f.read().split(b"\n"):
            line = line[:-1] if line.endswith(b"\r") else line
            if line:
                yield line


def count(impression_files, click_files):
    n = dict.fromkeys(
        ("rows", "rows_bad", "impressions", "duplicate_impressions",
         "joined_clicks", "duplicate_clicks", "orphan_clicks"), 0)
    shown, clicked = set(), set()
    for click, files in ((False, impression_files), (True, click_files)):
        for line in (line for path in files for line in _lines(path)):
            bid = line.split(b"\t")[0]
            n["rows"] += 1
            if not _good(line, click):
                n["rows_bad"] += 1
            elif not click:
                n["duplicate_impressions" if bid in shown else
                  "impressions"] += 1
                shown.add(bid)
            elif bid in clicked:
                n["duplicate_clicks"] += 1
            else:
                n["joined_clicks" if bid in shown else "orphan_clicks"] += 1
                clicked.add(bid)
    return n
