"""Settings of alignments: of any run, of its steps, and of the offline stream."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from reelign.diffusion.noise_levels import Distribution
from reelign.objectives.anchors import Anchors
from reelign.objectives.dpo import DPO
from reelign.objectives.kto import KTO
from reelign.objectives.rwr import RWR
from reelign.objectives.sft import SFT
from reelign.recipes.data.real_clips import Images
from reelign.recipes.samples import SampleSettings
from reelign.training import LoRA, MonitorSettings, TrainerSettings
from reelign.training.trackers import TrackerName

Objective = Annotated[DPO | SFT | RWR | KTO, Field(discriminator="name")]


@dataclass(frozen=True, kw_only=True, slots=True)
class RunSettings:
    """What every run that trains an adapter has, whatever it trains on."""

    run: str = "align"
    """Name of the run's folder under `runs/`."""
    lora: LoRA | None = field(default_factory=LoRA)
    """`null` trains all weights, beside a frozen copy of them where the objective asks a reference."""
    experts: tuple[str, ...] = ()
    """Denoisers that train, of a model with several such as Wan 2.2 A14B's `[transformer, transformer_2]`, each with an
    adapter and an optimiser state of its own; empty is all of them. Noise levels of the others are not drawn."""
    trainer: TrainerSettings = field(default_factory=TrainerSettings)
    samples: SampleSettings = field(default_factory=SampleSettings)
    trackers: tuple[TrackerName, ...] | None = None
    """Where metrics and sample videos are shown beside `metrics.jsonl`; None is TensorBoard where it is installed."""
    seed: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class StepSettings(RunSettings):
    """What the steps of the objectives read: the loss, its draws, and how a batch goes through the model."""

    objective: Objective = field(default_factory=DPO)
    anchors: Anchors = field(default_factory=Anchors)
    """Denoising errors added to the objective; IPO is DPO with chosen 0.2 and real 0.1."""
    real: str = ""
    """A CSV or Parquet file of (prompt, video): real clips, for `anchors.real` and for ground-truth pairs."""
    images: Images = "column"
    """Where real clips and labelled videos of a file take the image that they go on from: the file's `column` image, or
    each its own `first_frame`. The two videos of a pair share one, which the column names."""
    swap: bool = False
    """A control: chosen and rejected exchanged (SFT: `objective.on=rejected`). A sound pipeline must then get worse."""
    noise_levels: Distribution = "uniform"
    shift: float = 1.0
    """Shift of the training noise levels towards noise."""
    sigma_range: tuple[float, float] = (0.0, 1.0)
    """Noise levels outside are not trained on; SDPO clips off the ends, where gradients are mostly noise."""
    micro_batch_size: int = 16
    """Videos or pairs that go through the model at once; smaller saves memory and changes nothing else."""
    pairing: Literal["auto", "together", "apart"] = "auto"
    """Chosen and rejected in one batch, or one after the other; `auto` goes by the number of tokens."""
    two_pass: bool = False
    """Of pairs: find each pair's weight in the loss without gradients first, then go back through one video at a time.
    The same gradients for about half the activations and two more forwards a pair."""

    def __post_init__(self) -> None:
        if self.micro_batch_size < 1:
            raise ValueError(f"micro_batch_size must be at least 1, got {self.micro_batch_size}")
        if self.swap and isinstance(self.objective, SFT):
            raise ValueError("swap exchanges the sides of pairs, and sft sees one alone; set objective.on=rejected")
        if self.two_pass and not isinstance(self.objective, DPO):
            raise ValueError(f"two_pass belongs to pairs, and {self.objective.name} has none; set it to false")
        if self.pairing != "auto" and not isinstance(self.objective, DPO):
            raise ValueError(f"pairing belongs to pairs, and {self.objective.name} has none; set it to auto")
        if not self.shift > 0:
            raise ValueError(f"shift must be positive, got {self.shift}")
        low, high = self.sigma_range
        if not 0 <= low < high <= 1:
            raise ValueError(f"sigma_range must be two increasing levels in [0, 1], got {self.sigma_range}")
        if self.anchors.chosen and not isinstance(self.objective, DPO):
            raise ValueError(f"anchors.chosen belongs to pairs, and {self.objective.name} has none; set it to 0")
        if self.anchors.real and not self.real:
            raise ValueError("real must name a file of (prompt, video) for anchors.real, got ''")


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignSettings(StepSettings):
    """How to turn preferences into an adapter."""

    stream: Literal["offline"] = "offline"
    """Where the samples come from; `recipes.streams` has the others."""
    pairs: Literal["best_worst", "all", "agreed", "per_dimension", "ground_truth"] = "all"
    """Which preferences of a group: its best against its worst, every pair that the votes decide, those on which all
    dimensions agree, those of each dimension by itself, or a real video against every candidate."""
    min_margin: float = 0.0
    """Pairs with a smaller margin are left out (KTO: videos nearer to indifference; RWR: groups that are closer)."""
    weights: Mapping[str, float] | None = None
    """Weight of each judged dimension in a preference; None counts all alike."""
    defects: Literal["ignored", "segments"] = "ignored"
    """`segments` trains on the stretches of time in which the workspace's judges marked defects: where one of two
    videos has one the other is better, where both have nothing is learnt, elsewhere the pair's verdict holds."""
    histogram_alpha: float = 0.0
    """Re-weighting of pairs by how rare their videos' standings are (VideoDPO); 0 weighs all alike. DPO only."""
    reference_slots: int = 0
    """Draws of sigma and noise that each pair keeps and visits in turn, an epoch each; the reference's errors at them
    are paid once and kept for later epochs and runs. 0 draws afresh at every visit. DPO only."""
    empty_prompt_share: float = 0.0
    """Share of the captions replaced by the empty prompt, so that guidance's unconditional half moves too. The papers
    on video train without; 0.1 is the custom of pretraining."""
    batch_size: int = 16
    """Pairs (or videos) per optimiser step, of each rank where several train together."""
    monitor: MonitorSettings = field(default_factory=MonitorSettings)

    def __post_init__(self) -> None:
        StepSettings.__post_init__(self)  # super() finds no class here: slots make the dataclass anew
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.reference_slots < 0:
            raise ValueError(f"reference_slots must be at least 0, got {self.reference_slots}")
        if self.reference_slots and not isinstance(self.objective, DPO):
            raise ValueError(f"reference_slots belongs to pairs, and {self.objective.name} has none; set it to 0")
        for name in ("min_margin", "histogram_alpha"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")
        if not 0 <= self.empty_prompt_share < 1:
            raise ValueError(f"empty_prompt_share must be a share in [0, 1), got {self.empty_prompt_share}")
        if self.histogram_alpha and not isinstance(self.objective, DPO):
            raise ValueError(f"histogram_alpha weighs pairs, and {self.objective.name} has none; set it to 0")
        if self.pairs == "ground_truth" and not self.real:
            raise ValueError("real must name a file of (prompt, video) for pairs=ground_truth, got ''")
        if self.pairs == "ground_truth" and self.images == "first_frame":
            raise ValueError(
                "images=first_frame does not go with pairs=ground_truth, whose samples go on from their prompts' "
                "images; name those in the column image"
            )
        if self.defects == "segments" and self.pairs == "ground_truth":
            raise ValueError("defects=segments follows from judgements, and pairs=ground_truth has none")
        if self.real and not self.anchors.real and self.pairs != "ground_truth":
            raise ValueError(f"real={self.real} does nothing by itself; set anchors.real or pairs=ground_truth")
