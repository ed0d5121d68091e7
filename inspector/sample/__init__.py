"""The rendered sample product: a kit tray of parts, good or with a known fault. Knows no camera and no model."""

from inspector.sample.dataset import write_dataset
from inspector.sample.part import FAULTS, Defect, FaultKind, SamplePart, render
from inspector.sample.scene import COMPONENTS

__all__ = ["COMPONENTS", "FAULTS", "Defect", "FaultKind", "SamplePart", "render", "write_dataset"]
