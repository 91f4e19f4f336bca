"""How a run is trained, whatever the family."""

from typing import Annotated, Literal

from pydantic import Field

from ..core.config import BaseConfig, OpenShare, Share

# above 12^-1/2 = 0.289 early steps would weigh more than late ones
AverageWidth = Annotated[float, Field(ge=1e-3, le=0.28)]
Decision = Annotated[str, Field(pattern=r"^\d{1,12}:\d{1,12}$")]


class TrainConfig(BaseConfig):
    minutes: float | None = Field(
        None,
        gt=0,
        le=1e5,
        description="budget in minutes; turned into steps by timing the first ones, and again after "
        "3, 10, 30, 60 and 80 % of them",
    )
    epochs: float | None = Field(
        None, gt=0, le=1e6, description="budget in passes over the training data"
    )
    steps: int | None = Field(None, ge=1, le=10**10, description="budget in optimiser steps")
    plan: tuple[Decision, ...] = Field(
        (),
        description="budget of a run of minutes, to make it again: its plan in run.json, as "
        "STEP:TOTAL (0:233,23:112)",
    )
    batch_size: int = Field(128, ge=1, le=10**6, description="examples for each step")
    seed: int = Field(0, ge=0, lt=2**63, description="seed of everything random in the run")
    optimizer: Literal["adamw", "adam", "muon"] = Field(
        "adamw", description="muon: for matrices, adamw for the rest"
    )
    weight_decay: Share = Field(
        0.0,
        description="decoupled from the gradient (adamw, muon); added to it as L2 (adam)",
    )
    schedule: Literal["cosine", "linear", "constant", "wsd"] = Field(
        "cosine",
        description="of the learning rate, over the budget; wsd: stable, then a linear decay in the "
        "last 40 %",
    )
    lr_end: Share = Field(
        0.0, description="share of the learning rate that is left when the budget ends"
    )
    warmup: float = Field(
        0.01,
        ge=0,
        le=0.5,
        description="share of the budget over which the learning rate grows from 0",
    )
    ema: OpenShare = Field(
        0.999, description="decay of the averaged weights that sample and are measured"
    )
    averages: tuple[AverageWidth, ...] = Field(
        (),
        description="instead of --ema: averages of the weights, each over a share of the training "
        "(0.05,0.1); the one that is best on held-out examples samples",
    )
    clip: float = Field(
        200.0, gt=0, description="largest gradient norm; longer gradients are shortened to it"
    )
    precision: Literal["float32", "bfloat16", "auto"] = Field(
        "float32",
        description="bfloat16: mixed precision; auto: bfloat16 where the hardware has it. What auto "
        "chose is kept in the run, also for a resume on another machine",
    )
    compile: bool = Field(
        False, description="compile the networks with torch.compile (needs a C++ compiler)"
    )
    device: Literal["auto", "cpu", "cuda", "mps"] = Field("auto", description="where to train")
    threads: int = Field(
        0, ge=0, le=1024, description="CPU threads; 0 takes all cores. Part of the exact result"
    )
    workers: int = Field(
        0, ge=0, le=64, description="threads that prepare batches ahead. Changes no result"
    )
    intervals: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="how often to validate, report and save in the course of the budget [20, fewer "
        "where that would take more than a fifth of the minutes]",
    )
    validation_examples: int = Field(
        2000, ge=1, description="held-out examples that are measured at each interval"
    )


INTERVALS = 20  # unless others are given, or there is no time for so many
BUDGETS = ("minutes", "epochs", "steps")
# May differ on resume: workers change no result, threads and device cause a warning, budgets add
# steps.
FREE_ON_RESUME = ("workers", "threads", "device", *BUDGETS)
