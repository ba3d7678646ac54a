#!/usr/bin/env python3
"""Every field of the server's and the trainer's configuration with every kind of
nonsense: accepted, or refused with file, field and value. Never anything else."""
import os
import pathlib
import re
import subprocess
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import live  # noqa: E402

# What each program needs beside the field in question, by message.
SERVER = {"storage": 'data_dir: "d"', "model": 'model_dir: "m"'}
TRAINER = ('data_dir: "d" model_dir: "m"\n'
           'feature_spec { fields { name: "city" } }\n'
           "embedding { graph { linear: true dim: 4 pairwise: FM } }\n")
DEPTH = 4


def values(field):
    """Texts of the text format."""
    if field.enum_type:
        return ["77"] + [v.name for v in field.enum_type.values]
    return {
        field.CPPTYPE_DOUBLE: ["nan", "inf", "-inf", "-1", "0", "1e300",
                               "1e-300", "2", "-0.0"],
        field.CPPTYPE_FLOAT: ["nan", "inf", "-1", "1e30", "-0.0"],
        field.CPPTYPE_UINT32: ["0", "1", "4294967295"],
        field.CPPTYPE_UINT64: ["0", "18446744073709551615"],
        field.CPPTYPE_INT32: ["-2147483648", "-1", "0", "2147483647"],
        field.CPPTYPE_INT64: ["-9223372036854775808", "-1",
                              "9223372036854775807"],
        field.CPPTYPE_BOOL: ["true"],
        field.CPPTYPE_STRING: ['""', r'"\377\376"', '"../../x"', r'"a b/\n"',
                               '"%s"' % ("x" * 5000)],
    }[field.cpp_type]


def fields(message, path=()):
    for field in message.fields:
        if field.message_type is None:
            yield path + (field.name,), values(field)
        elif len(path) < DEPTH:
            yield from fields(field.message_type, path + (field.name,))


def nested(path, value):
    text = f"{path[-1]}: {value}"
    for name in reversed(path[:-1]):
        text = f"{name} {{ {text} }}"
    return text


def server_text(path, value):
    """The field has the last line, or stands in its message's."""
    lines, given = [], False
    for name, needed in SERVER.items():
        inner = ""
        if name == path[0]:
            inner, given = nested(path[1:], value), True
            needed = re.sub(rf"\b{path[1]}: \S+", "", needed)
        lines.append(f"{name} {{ {needed} {inner} }}")
    return "\n".join(lines if given else lines + [nested(path, value)])


def attempt(program, at, text):
    at.write_text(text)
    done = subprocess.run([str(live.BIN / program), "--config", str(at),
                           "--check_config"], capture_output=True, timeout=60)
    return done.returncode, (done.stdout + done.stderr).decode(errors="replace")


def check_server(at, descriptor):
    tried = refused = 0
    for path, texts in fields(descriptor):
        for value in texts:
            code, said = attempt("adrank-server", at, server_text(path, value))
            assert code in (0, 2), (path, value, code, said[-500:])
            tried, refused = tried + 1, refused + (code == 2)
            # Of fields that go together the message they are in is named.
            named = ".".join(path) in said or ".".join(path[:-1]) + ":" in said
            empty = value == '""' and f"{at}: {'.'.join(path)}: required" in said
            assert code == 0 or empty or (
                named and re.search(rf"{re.escape(str(at))}:\d+: ", said)), (
                    path, value, said[-500:])
    return tried, refused


def check_trainer(at, descriptor):
    tried = refused = 0
    for path, texts in fields(descriptor):
        if path[0] in ("data_dir", "model_dir", "logistic"):
            continue
        for value in texts:
            text = TRAINER if path[0] not in ("embedding", "feature_spec") else (
                'data_dir: "d" model_dir: "m"\n'
                + ("" if path[0] == "feature_spec"
                   else 'feature_spec { fields { name: "city" } }\n')
                + ("" if path[0] == "embedding" else "logistic { }\n"))
            code, said = attempt("adrank-trainer", at, text + nested(path, value))
            assert code in (0, 2), (path, value, code, said[-500:])
            assert code == 0 or str(at) in said, (path, value, said[-500:])
            tried, refused = tried + 1, refused + (code == 2)
    return tried, refused


def main():
    with live.Scratch() as scratch:
        os.chdir(scratch.path)
        at = pathlib.Path("config.textproto")
        print("server: %d tried, %d refused" % check_server(
            at, live.stub("server_config_pb2").ServerConfig.DESCRIPTOR))
        print("trainer: %d tried, %d refused" % check_trainer(
            at, live.stub("trainer_config_pb2").TrainerConfig.DESCRIPTOR))


if __name__ == "__main__":
    main()
