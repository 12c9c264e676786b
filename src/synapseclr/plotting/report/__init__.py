"""The report: sections of text, pictures and tables in, one self-contained HTML page out."""

from synapseclr.plotting.report.page import Picture, Section, Table, render_report

__all__ = ["Picture", "Section", "Table", "render_report"]
