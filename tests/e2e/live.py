"""A running adrank-server, and the stubs a foreign client would generate.

Everything is in a temporary directory, listens on free loopback ports and is
stopped by pid.
"""
import importlib
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import grpc

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BIN = pathlib.Path(os.environ.get("ADRANK_BIN", ROOT / "build" / "bin"))


def generate_stubs(directory):
    """Compiles proto/*.proto for Python into `directory`, importable as proto.X."""
    protos = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "proto").glob("*.proto"))
    plugin = shutil.which("grpc_python_plugin")
    subprocess.run(["protoc", f"-I{ROOT}", f"--python_out={directory}",
                    f"--grpc_python_out={directory}",
                    f"--plugin=protoc-gen-grpc_python={plugin}",
                    *[str(ROOT / p) for p in protos]], check=True)
    sys.path.insert(0, str(directory))


def stub(name):
    """The generated module proto.<name>."""
    return importlib.import_module(f"proto.{name}")


def run(program, *arguments, expect=0, timeout=300):
    """Runs one of our programs; returns its standard output."""
    done = subprocess.run([str(BIN / program), *map(str, arguments)], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          timeout=timeout)
    if done.returncode != expect:
        raise AssertionError(
            f"{program} {' '.join(map(str, arguments))}: exit {done.returncode}, "
            f"expected {expect}\n{done.stdout}\n{done.stderr}")
    return done.stdout


class Scratch:
    """A temporary directory with generated stubs."""

    def __enter__(self):
        self.path = pathlib.Path(tempfile.mkdtemp(prefix="adrank_e2e."))
        stubs = self.path / "stubs"
        stubs.mkdir()
        generate_stubs(stubs)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.path, ignore_errors=True)


class LiveServer:
    """adrank-server on `directory`/data and `directory`/models."""

    def __init__(self, directory, durability="GROUP_COMMIT", poll_ms=100):
        self.directory = pathlib.Path(directory)
        self.config = self.directory / "server.textproto"
        self.ports_file = self.directory / "ports"
        self.config.write_text(f"""
storage {{ data_dir: "{self.directory}/data" durability: {durability} }}
model {{ model_dir: "{self.directory}/models" poll_ms: {poll_ms} }}
limits {{ deadline_ms: 5000 }}
listen {{
  grpc_port: -1 http_port: -1 admin_port: -1
  ports_file: "{self.ports_file}"
}}
""")
        self.process = None

    def start(self):
        self.ports_file.unlink(missing_ok=True)
        self.log = open(self.directory / "server.log", "ab")
        self.process = subprocess.Popen(
            [str(BIN / "adrank-server"), "--config", str(self.config)],
            stdout=self.log, stderr=self.log)
        for _ in range(1000):
            if self.ports_file.exists():
                break
            if self.process.poll() is not None:
                raise AssertionError(
                    "server did not start:\n"
                    + (self.directory / "server.log").read_text()[-2000:])
            time.sleep(0.02)
        ports = dict(p.split("=") for p in self.ports_file.read_text().split())
        self.grpc, self.http, self.admin = (
            f"127.0.0.1:{ports[k]}" for k in ("grpc", "http", "admin"))
        self.channel = grpc.insecure_channel(self.grpc)
        self.admin_channel = grpc.insecure_channel(self.admin)
        return self

    def kill(self):
        """kill -9."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self._close()

    def stop(self):
        """SIGTERM; must end by itself with exit code 0."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self._close()
        if code != 0:
            raise AssertionError(f"server exited with {code}")

    def _close(self):
        self.channel.close()
        self.admin_channel.close()
        self.log.close()
        self.process = None

    def get(self, path):
        with urllib.request.urlopen(f"http://{self.http}{path}", timeout=10) as r:
            return r.read().decode()

    def metric(self, name):
        """Sum of all series whose line begins with `name`."""
        return sum(float(line.rsplit(" ", 1)[1])
                   for line in self.get("/metrics").splitlines()
                   if line.startswith(name))

    def __enter__(self):
        return self.start()

    def __exit__(self, kind, *_):
        if self.process is None:
            return
        if kind is None:
            self.stop()
        else:
            self.kill()
