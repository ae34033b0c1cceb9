"""Makes sclite.json: sentences of ours with the errors that NIST's sclite counts in them, words and characters.

    python tests/score/make_sclite.py /usr/lib/sctk/bin/sclite    # Debian: sctk 2.4.10

sclite's alignment weighs a substitution 4 and the others 3, so among many errors it can count more than there need be.
"""

import json
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

FILE = Path(__file__).with_name("sclite.json")
WORDS = {
    "nl": ["de", "vis", "ligt", "op", "het", "oude", "schip", "één", "zo'n", "wrak", "onder", "water"],
    "el": ["το", "ψάρι", "είναι", "στο", "παλιό", "πλοίο", "κάτω", "από", "νερό", "ένα"],
    "ka": ["თევზი", "ძველ", "გემზე", "არის", "წყლის", "ქვეშ", "ერთი", "და", "ორი"],
}
SCORES = re.compile(r"^Scores: \(#C #S #D #I\) (\d+) (\d+) (\d+) (\d+)$", re.MULTILINE)


def heard(words: list[str], vocabulary: list[str], draw: random.Random) -> list[str]:
    """The words with some left out, mistaken, or put in."""
    out = []
    for word in words:
        kind = draw.choices(["right", "wrong", "gone", "more"], [12, 3, 2, 2])[0]
        out += {
            "right": [word],
            "wrong": [draw.choice([draw.choice(vocabulary), word[:-1] or "a", word + "n"])],
            "gone": [],
            "more": [word, draw.choice(vocabulary)],
        }[kind]
    return out


def sclite(program: str, references: list[str], hypotheses: list[str]) -> list[int]:
    """Substitutions + deletions + insertions of each pair."""
    with tempfile.TemporaryDirectory() as folder:
        for name, texts in (("ref", references), ("hyp", hypotheses)):
            lines = [f"{text} (s-{number:04d})\n" for number, text in enumerate(texts)]
            Path(folder, name).write_text("".join(lines), encoding="utf-8")
        files = ["-r", f"{folder}/ref", "trn", "-h", f"{folder}/hyp", "trn"]
        command = [program, *files, "-i", "spu_id", "-e", "utf-8", "-s", "-o", "pra", "stdout"]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
    counts = [sum(map(int, found[1:])) for found in SCORES.findall(done.stdout)]
    assert len(counts) == len(references), done.stdout
    return counts


def main(program: str) -> None:
    draw, rows = random.Random(1), []
    for lang, vocabulary in WORDS.items():
        pairs = []
        for _ in range(30):
            words = draw.choices(vocabulary, k=draw.randint(1, 12))
            pairs.append((" ".join(words), " ".join(heard(words, vocabulary, draw))))
        references, hypotheses = map(list, zip(*pairs, strict=True))
        words_wrong = sclite(program, references, hypotheses)
        letters = [[" ".join(text.replace(" ", "_")) for text in side] for side in (references, hypotheses)]
        chars_wrong = sclite(program, *letters)
        for reference, hypothesis, words_, chars in zip(references, hypotheses, words_wrong, chars_wrong, strict=True):
            row = {"lang": lang, "reference": reference, "hypothesis": hypothesis}
            rows.append({**row, "word_errors": words_, "char_errors": chars})
    lines = [json.dumps(row, ensure_ascii=False) for row in rows]
    FILE.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
