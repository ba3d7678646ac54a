"""The models of bench/deep_throughput_bench.cc in PyTorch on the CPU, tables
with sparse gradients: rows a second, in the same JSON lines.

    bench/run.sh deep_throughput --torch [--rows N] [--threads N] [--only MODEL]
        [--batch N] [--optimizer adagrad|adam_lazy]

Needs Debian's python3-torch and a fast BLAS (`apt-get install python3-torch
libopenblas0-pthread`): with the reference BLAS that it comes with, its products
are thirty times slower, which no one should hold against it. The examples are
drawn as bench/ctr_market.h draws them, with clicks at random: no quality here.
The floor is PyTorch's own rate of the models' matrix products, as over there.
"""

import argparse
import json
import math
import time

import numpy as np
import torch
from torch import nn

# As CtrMarket::Vocabularies.
VOCABULARIES = [
    50, 50, 60, 60, 70, 70, 80, 80, 90, 90, 100, 100, 120, 10, 24, 100, 300,
    500, 600, 1000, 2000, 4000, 5000, 8000, 10000, 12000, 15000, 20000, 50000,
    90000, 130000, 200000, 300000, 500000, 1100000, 1500000, 2000000, 3000000,
    5000000
]
DIM = 16
WIDTH = DIM * len(VOCABULARIES)
UNITS = [400, 400, 400]


class Tables(nn.Module):
    """The table of embeddings and, for DeepFM, of linear weights."""

    def __init__(self, linear):
        super().__init__()
        rows = sum(VOCABULARIES)
        self.vectors = nn.Embedding(rows, DIM, sparse=True)
        nn.init.normal_(self.vectors.weight, std=0.01)
        if linear:
            self.linear = nn.Embedding(rows, 1, sparse=True)
            nn.init.zeros_(self.linear.weight)


def mlp():
    layers = []
    for n_in, n_out in zip([WIDTH] + UNITS, UNITS):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(UNITS[-1], 1))


class DeepFm(nn.Module):

    def __init__(self):
        super().__init__()
        self.tables = Tables(linear=True)
        self.dense = nn.ModuleDict({"mlp": mlp()})

    def forward(self, ids):
        e = self.tables.vectors(ids)
        pairs = 0.5 * (e.sum(1).square() - e.square().sum(1)).sum(1)
        deep = self.dense["mlp"](e.flatten(1)).squeeze(1)
        return self.tables.linear(ids).sum((1, 2)) + pairs + deep


class DcnV2(nn.Module):

    def __init__(self):
        super().__init__()
        self.tables = Tables(linear=False)
        self.dense = nn.ModuleDict({
            "cross": nn.ModuleList(nn.Linear(WIDTH, WIDTH) for _ in range(3)),
            "mlp": mlp()
        })

    def forward(self, ids):
        x0 = x = self.tables.vectors(ids).flatten(1)
        for layer in self.dense["cross"]:
            x = x0 * layer(x) + x
        return self.dense["mlp"](x).squeeze(1)


def draw(rng, rows):
    """[rows][fields] ids; rank r of a field has probability ~ 1/r."""
    ids = np.empty((rows, len(VOCABULARIES)), np.int64)
    base = 0
    for f, size in enumerate(VOCABULARIES):
        rank = np.exp2(rng.random(rows) * math.log2(size)).astype(np.int64)
        ids[:, f] = base + (rank - 1) * 0x9e3779b1 % size
        base += size
    return torch.from_numpy(ids)


def seconds_of_products(shapes, batch):
    """One batch: forward, gradient of the input, gradient of the weights."""
    operands = [(torch.rand(batch, k), torch.rand(k, n), torch.rand(batch, n))
                for k, n in shapes]

    def run():
        for x, w, d in operands:
            x @ w, d @ w.T, x.T @ d

    run()
    times = []
    for _ in range(9):
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]


def measure(name, model, ids, clicks, batch, optimizer):
    kind = {"adagrad": torch.optim.Adagrad, "adam_lazy": torch.optim.SparseAdam}
    rate = {"adagrad": 0.05, "adam_lazy": 0.001}
    steps = [
        kind[optimizer](list(model.tables.parameters()), lr=rate[optimizer]),
        torch.optim.Adam(model.dense.parameters(), lr=0.001)
    ]
    loss_of = nn.BCEWithLogitsLoss()
    warm_up = 2
    for i in range(len(ids) // batch):
        if i == warm_up:
            begin = time.perf_counter()
        part = slice(i * batch, (i + 1) * batch)
        for step in steps:
            step.zero_grad(set_to_none=True)
        loss_of(model(ids[part]), clicks[part]).backward()
        for step in steps:
            step.step()
    rate = (i + 1 - warm_up) * batch / (time.perf_counter() - begin)
    shapes = [tuple(reversed(p.shape)) for p in model.dense.parameters()
              if p.dim() == 2 and p.shape[0] > 1]
    floor = batch / seconds_of_products(shapes, batch)
    print(json.dumps({
        "name": f"torch_ctr/{name}", "value": round(rate), "unit": "rows/s",
        "floor": round(floor), "ratio": round(rate / floor, 3),
        "params": {"batch": batch, "optimizer": optimizer,
                   "threads": torch.get_num_threads(),
                   "rows": (i + 1) * batch, "torch": torch.__version__}
    }), flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=["deepfm", "dcnv2"])
    parser.add_argument("--batch", type=int)
    parser.add_argument("--optimizer", choices=["adagrad", "adam_lazy"])
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(1)
    ids = draw(rng, args.rows)
    clicks = torch.from_numpy((rng.random(args.rows) < 0.05).astype(np.float32))
    for name, model in {"deepfm": DeepFm, "dcnv2": DcnV2}.items():
        if args.only in (None, name):
            for batch in [args.batch] if args.batch else [2048, 4096]:
                for optimizer in ([args.optimizer] if args.optimizer else
                                  ["adagrad", "adam_lazy"]):
                    measure(name, model(), ids, clicks, batch, optimizer)


if __name__ == "__main__":
    main()
