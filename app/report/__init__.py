"""Results as a person reads them: tables for the terminal."""

from .text import (
    certificate_table,
    curve_table,
    in_time_lines,
    in_time_table,
    inspection_table,
    plain_certificate,
    prune_lines,
    sparsity_table,
    summary_lines,
)

__all__ = [
    "certificate_table",
    "curve_table",
    "in_time_lines",
    "in_time_table",
    "inspection_table",
    "plain_certificate",
    "prune_lines",
    "sparsity_table",
    "summary_lines",
]
