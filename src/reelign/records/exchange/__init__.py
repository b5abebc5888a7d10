"""The record in and out, one format per file; what went out and comes in again is the same."""

from reelign.records.exchange.argilla import read_argilla, write_argilla
from reelign.records.exchange.bundle import Bundle, SharedVideo, add_bundle, bundle_of
from reelign.records.exchange.hub_dataset import read_hub_dataset, write_hub_dataset
from reelign.records.exchange.label_studio import read_label_studio, write_label_studio
from reelign.records.exchange.tables import read_tables, write_tables
from reelign.records.exchange.videoreward import RewardRow, bundle_of_rows, read_rows, rows_of, write_rows

__all__ = [
    "Bundle",
    "RewardRow",
    "SharedVideo",
    "add_bundle",
    "bundle_of",
    "bundle_of_rows",
    "read_argilla",
    "read_hub_dataset",
    "read_label_studio",
    "read_rows",
    "read_tables",
    "rows_of",
    "write_argilla",
    "write_hub_dataset",
    "write_label_studio",
    "write_rows",
    "write_tables",
]
