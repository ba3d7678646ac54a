"""Runs adrankctl import and adrank-trainer for the tests of imports."""
import json
import os
import re
import subprocess

REPO = os.path.dirname(
    os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BIN = os.environ.get("ADRANK_BIN", os.path.join(REPO, "build", "bin"))
EXAMPLES = os.path.join(REPO, "deploy", "examples")


def binary(name):
    path = os.path.join(BIN, name)
    if not os.access(path, os.X_OK):
        raise SystemExit("no %s: build it, or set ADRANK_BIN" % path)
    return path


def import_log(mapping, log, inputs, clicks=(), expect=0):
    """The counts, as a dict, and what was written to stderr."""
    command = [binary("adrankctl"), "--json", "import", "--mapping", mapping,
               "--log", log, "--input", *inputs]
    if clicks:
        command += ["--clicks", *clicks]
    done = subprocess.run(command, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True)
    assert done.returncode == expect, (done.returncode, done.stderr)
    return json.loads(done.stdout) if done.stdout else {}, done.stderr


def train(example, log, models, config_path, expect):
    """The report of a run of the example's config on other directories."""
    with open(os.path.join(EXAMPLES, example)) as f:
        text = f.read()
    text = re.sub(r'(?m)^data_dir: .*', 'data_dir: "%s"' % log, text)
    text = re.sub(r'(?m)^model_dir: .*', 'model_dir: "%s"' % models, text)
    with open(config_path, "w") as f:
        f.write(text)
    done = subprocess.run([binary("adrank-trainer"), "--config", config_path],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True)
    assert done.returncode in expect, (done.returncode, done.stdout,
                                       done.stderr)
    with open(os.path.join(models, "ctr", "last_report.json")) as f:
        return json.load(f)
