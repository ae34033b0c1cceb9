"""The look of the report page: one column, light or dark as the reader's system is, readable on a phone."""

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1d2129; --soft: #5b6472; --line: #d9dde3; --ground: #fff; --shade: #f4f6f8;
  --wrong: #ffe0d6; --wrong-ink: #8f2a00; --accent: #0072b2; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e7eb; --soft: #9aa4b2; --line: #363c46; --ground: #15181c;
  --shade: #1e2227; --wrong: #54281a; --wrong-ink: #ffc2ab; --accent: #56b4e9; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 60rem; padding: 1.5rem 1.25rem 4rem; background: var(--ground); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; }
h2 { font-size: 1.15rem; margin: 2.5rem 0 .75rem; }
h3 { font-size: 1rem; margin: 1.25rem 0 .4rem; }
.kicker, .note, .id { color: var(--soft); font-size: .875rem; }
.kicker { margin: 0; }
.note { margin: .5rem 0 0; }
.headline { border-left: 4px solid var(--accent); padding-left: 1rem; margin: 1.25rem 0; font-size: 1.15rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .7rem; border-bottom: 1px solid var(--line); text-align: right; white-space: nowrap; }
th { color: var(--soft); font-weight: 600; border-bottom-color: var(--soft); }
th.text, td.text { text-align: left; }
td.long { white-space: normal; min-width: 16rem; }
th:first-child, td:first-child { padding-left: 0; }
tr.strong td { font-weight: 650; background: var(--shade); }
figure { margin: 0; max-width: 44rem; }
svg { width: 100%; height: auto; display: block; }
dl.sample { margin: 0; padding: .7rem 0; border-bottom: 1px solid var(--line); display: grid;
  grid-template-columns: minmax(7rem, max-content) 1fr; gap: .15rem 1rem; }
dl.sample dt { color: var(--soft); font-size: .875rem; }
dl.sample dd { margin: 0; overflow-wrap: anywhere; }
dl.sample .reference { font-weight: 600; }
ins, del { text-decoration: none; background: var(--wrong); color: var(--wrong-ink); border-radius: 3px;
  padding: 0 .2em; }
del { text-decoration: line-through; background: none; }
details { border-bottom: 1px solid var(--line); padding: .4rem 0; }
summary { cursor: pointer; }
pre { overflow-x: auto; background: var(--shade); padding: .8rem; border-radius: 6px; font-size: .8rem;
  line-height: 1.45; }
@media (max-width: 40rem) { body { padding: 1rem 1rem 3rem; } dl.sample { grid-template-columns: 1fr; gap: 0; }
  dl.sample dd { margin-bottom: .35rem; } th, td { padding: .3rem .5rem; } }
@media print { body { max-width: none; } }
"""
