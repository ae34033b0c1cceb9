"""Reports: the table by arm and one self-contained HTML page."""
