"""Which parameters learn alike, and by which rule: groups, Adam, Adam by rows, Muon."""

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(kw_only=True)
class Group:
    """Parameters that learn alike; `members` are modules and parameters. All else is frozen and in eval
    mode."""

    members: list
    lr: float
    weight_decay: float = 0.0
    bias_factor: float = 1.0  # on the rate of parameters whose name contains "bias"
    bias_decay: float | None = None  # their weight decay, the group's unless told
    betas: tuple = (0.9, 0.999)
    eps: float = 1e-8
    row_sparse: bool = False  # tables: a row moves only in steps that use it
    muon: bool = False  # matrices: steps of equal length in all directions (Jordan et al. 2024), without Adam

    def parameters(self):
        """Every parameter of the members, once."""
        found = {}
        for member in self.members:
            parameters = [member] if isinstance(member, nn.Parameter) else member.parameters()
            found |= {id(p): p for p in parameters}
        return list(found.values())


def make_optimisers(method, groups):
    """Adam (coupled weight decay, as in all five papers), fused; tables that are row-sparse get RowAdam, and
    what our own pretraining asks for gets Muon."""
    names = {id(p): name for name, p in method.named_parameters() if p.requires_grad}
    kinds = {RowAdam: [], muon: [], adam: []}
    for group in groups:
        kinds[rule_of(group)] += split_biases(group, names)
    return [make(kinds[make]) for make in (adam, RowAdam, muon) if kinds[make]]


def rule_of(group):
    """By which rule the parameters of a group learn."""
    if group.row_sparse:
        return RowAdam
    return muon if group.muon else adam


def adam(parts):
    return torch.optim.Adam(parts, fused=True)


def muon(parts):
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(
            f"expected torch 2.9 or newer, which has Muon, found {torch.__version__}; install a newer one, "
            "or use the weights that come with the project."
        )
    return torch.optim.Muon(parts)


def split_biases(group, names):
    """At most two parameter groups: everything else, and what has "bias" in its name."""
    parts = []
    for is_bias in (False, True):
        parameters = [p for p in group.parameters() if id(p) in names and ("bias" in names[id(p)]) == is_bias]
        decay = group.bias_decay if is_bias and group.bias_decay is not None else group.weight_decay
        # the schedule multiplies "base_lr" in every step and writes the product into "lr"
        rate = group.lr * (group.bias_factor if is_bias else 1.0)
        if parameters:
            parts.append(
                {
                    "params": parameters,
                    "lr": rate,
                    "base_lr": rate,
                    "weight_decay": decay,
                    "betas": group.betas,
                    "eps": group.eps,
                }
            )
    return parts


def load_optimisers(optimisers, states):
    for optimiser, state in zip(optimisers, states):
        optimiser.load_state_dict(state)


class RowAdam(torch.optim.Optimizer):
    """Adam for tables: a row without a gradient in a step does not move, and counts its own steps (HPL,
    decision D15)."""

    def __init__(self, groups):
        decayed = [group["weight_decay"] for group in groups if group.get("weight_decay")]
        if decayed:
            raise ValueError(
                "expected no weight decay on tables whose rows move only when they are used, found "
                f"{decayed[0]:g}; decay would move the others, too: set it to 0."
            )
        super().__init__(groups, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.move(p, group)

    def move(self, p, group):
        """One step of a table (C, ...): rows with a gradient move, all others keep their state."""
        state = self.state[p]
        beta1, beta2 = group["betas"]
        if not state:
            state |= {"step": p.new_zeros(len(p)), "mean": torch.zeros_like(p), "square": torch.zeros_like(p)}
        used = (p.grad != 0).flatten(1).any(1)  # (C,)
        shape = (-1,) + (1,) * (p.dim() - 1)
        on = used.view(shape)  # (C, 1, ...)
        state["step"] += used  # (C,), each row counts its own
        state["mean"] = torch.where(on, state["mean"].lerp(p.grad, 1 - beta1), state["mean"])
        state["square"] = torch.where(on, state["square"].lerp(p.grad.square(), 1 - beta2), state["square"])
        count = state["step"].clamp(min=1).view(shape)  # (C, 1, ...); rows not used yet are masked below
        mean = state["mean"] / warmed(beta1, count)
        square = state["square"] / warmed(beta2, count)
        p.sub_(group["lr"] * torch.where(on, mean / (square.sqrt() + group["eps"]), 0.0))


def warmed(beta, count):
    """1 - beta^count, exact to the last digit for small counts."""
    return -torch.expm1(count * math.log(beta))
