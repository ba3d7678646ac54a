#!/usr/bin/env python3
"""What a person who makes a mistake sees: the place, the reason, the exit code;
and nothing has changed."""
import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import live  # noqa: E402


def attempt(program, *arguments):
    """(exit code, standard output and error) of one of our programs."""
    done = subprocess.run([str(live.BIN / program), *map(str, arguments)],
                          text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, timeout=120)
    return done.returncode, done.stdout


def expect(code, words, program, *arguments):
    got, text = attempt(program, *arguments)
    missing = [w for w in words if w not in text]
    assert got == code and not missing, (
        f"{program} {arguments}: exit {got}, expected {code}; lacks {missing}:\n"
        f"{text}")


SPEC = 'fields { name: "city" } '


def trainer_configs(at, data, models):
    """(text, words its error must have) of configs that are wrong."""
    head = f'data_dir: "{data}" model_dir: "{models}"\n'
    return [
        (head + "logistc { alpha: 1 }", [f"{at}:2:", "logistc"]),
        (head + 'feature_spec { fields { name: "a" kind: CATEGORICAAL } }',
         [f"{at}:2:", "CATEGORICAAL"]),
        (head + 'feature_spec { fields { name: "a" } fields { name: "a" } }',
         [str(at), '"a"']),
        (head + 'feature_spec { fields { name: "a" source: "nowhere" } }',
         [str(at), '"a"', "nowhere"]),
        (head + f'feature_spec {{ {SPEC} crosses {{ name: "x" of: "y" of: "city" }}'
         ' crosses { name: "y" of: "x" of: "city" } }', [str(at), '"x"', 'cycle x -> y -> x']),
        (head + f'feature_spec {{ {SPEC} }} logistic {{ alpha: -1 }}',
         [str(at), "logistic.alpha", "-1"]),
        (head + f'feature_spec {{ {SPEC} }} data {{ train_begin: "yesterday" }}',
         [str(at), "data.train_begin", "yesterday"]),
        (f"feature_spec {{ {SPEC} }}", [str(at), "data_dir"]),
    ]


def check_configs(directory):
    at = directory / "t.textproto"
    for text, words in trainer_configs(at, directory / "data",
                                       directory / "models"):
        at.write_text(text)
        expect(2, words, "adrank-trainer", "--config", at)
        expect(2, words, "adrank-trainer", "--config", at, "--check_config")
    server = directory / "s.textproto"
    for text, words in [
            ('storage { data_dir: "d" }\nmodle { }', [f"{server}:2:", "modle"]),
            ('storage { data_dir: "d" }', [str(server), "model.model_dir"]),
            ('storage { data_dir: "d" } model { model_dir: "m" prior_ctr: 2 }',
             [str(server), "model.prior_ctr", "2"]),
            # What is wrong has its line, although the file could be read.
            ('storage { data_dir: "d" }\nmodel { model_dir: "m" }\n'
             'rank { pricing: VCG\n position_effects: 1\n position_effects: nan }',
             [f"{server}:5: rank.position_effects[1]: nan"]),
            ('storage { data_dir: "d"\n durability: 9 } model { model_dir: "m" }',
             [f"{server}:2: storage.durability: 9"]),
            ('storage { data_dir: "d" } model { model_dir: "m" }\n'
             'listen { address: "../x" }',
             [f"{server}:2: listen.address: \"../x\""]),
            ('storage { data_dir: "d" } model { model_dir: "m" }\n\n'
             'budget { hard_share: nan }',
             [f"{server}:3: budget.hard_share: nan not in [0, 1]"])]:
        server.write_text(text)
        expect(2, words, "adrank-server", "--config", server)
        expect(2, words, "adrank-server", "--config", server, "--check_config")
    market = directory / "m.textproto"
    market.write_text("position_effect: 0.5")
    expect(2, [f"{market}:1: position_effect"], "adrank-simulate", "generate",
           "--config", market, "--data", directory / "sim")
    mapping = directory / "i.textproto"
    mapping.write_text('format: CSV\ncolumn { colum: "x" }')
    expect(2, [f"{mapping}:2:", "colum"], "adrankctl", "import", "--mapping",
           mapping, "--input", mapping, "--log", directory / "imported")
    left = sorted(p.name for p in directory.iterdir() if p.is_dir())
    assert not left, f"a refused run made {left}"


def check_usage():
    for program in ("adrank-trainer", "adrank-server", "adrankctl",
                    "adrank-simulate"):
        expect(2, [], program, "--no-such-option")
        expect(0, ["sage"], program, "--help")
    expect(2, ["--help"], "adrankctl", "no-such-verb")


def good_trainer_config(directory, name, data):
    path = directory / f"{name}.textproto"
    lines = (live.ROOT / "deploy/examples/simulated_market.trainer.textproto"
             ).read_text().splitlines()
    path.write_text("\n".join(
        [f'data_dir: "{data}" model_dir: "{directory}/models"']
        + [line for line in lines
           if not line.startswith(("data_dir:", "model_dir:"))]))
    return path


def check_logs(directory):
    config = good_trainer_config(directory, "absent", directory / "nothing")
    expect(1, ["nothing"], "adrank-trainer", "--config", config)

    # A log without a click, then without anything.
    mapping = directory / "csv.mapping"
    mapping.write_text('format: CSV header: true '
                       'column { column: "y" to: LABEL } '
                       'column { column: "t" to: TIME } '
                       'column { column: "a" to: AD_ID }')
    rows = directory / "rows.csv"
    rows.write_text("y,t,a\n" + "".join(
        f"0,{1767571200000 + i},a{i % 7}\n" for i in range(3000)))
    live.run("adrankctl", "import", "--mapping", mapping, "--input", rows, "--log",
             directory / "clickless")
    config = good_trainer_config(directory, "clickless", directory / "clickless")
    expect(3, ["click"], "adrank-trainer", "--config", config)
    rows.write_text("y,t,a\n")
    live.run("adrankctl", "import", "--mapping", mapping, "--input", rows, "--log",
             directory / "empty")
    config = good_trainer_config(directory, "empty", directory / "empty")
    expect(3, [], "adrank-trainer", "--config", config)
    assert not (directory / "models" / "ctr" / "published").exists()

    # Too many bad rows.
    rows.write_text("y,t,a\n" + "7,never,\n" * 10)
    expect(1, ["rows.csv:2", "10 of 10 rows are bad"], "adrankctl", "import",
           "--mapping", mapping, "--input", rows, "--log", directory / "bad")

    # Damage in the middle of every file that holds records.
    damaged = [path for path in (directory / "clickless" / "log").iterdir()
               if path.suffix in (".sst", ".log") and path.stat().st_size > 1000]
    assert damaged, "the log has no files to damage"
    for path in damaged:
        content = bytearray(path.read_bytes())
        for i in range(len(content) // 3, len(content) // 2, 64):
            content[i] ^= 0x55
        path.write_bytes(content)
    config = good_trainer_config(directory, "damaged", directory / "clickless")
    expect(1, ["clickless"], "adrank-trainer", "--config", config)


def check_locked_log(directory):
    server = live.LiveServer(directory)
    with server:
        expect(1, ["data"], "adrank-server", "--config", server.config)
        rows = directory / "one.csv"
        rows.write_text("y,t,a\n0,1767571200000,a\n")
        expect(1, ["data"], "adrankctl", "import", "--mapping",
               directory / "csv.mapping", "--input", rows, "--log",
               directory / "data")


def main():
    with tempfile.TemporaryDirectory(prefix="adrank_e2e.") as name:
        directory = pathlib.Path(name)
        check_usage()
        check_configs(directory)
        check_logs(directory)
        check_locked_log(directory)
    print("bad input: every mistake is named and changes nothing")


if __name__ == "__main__":
    main()
