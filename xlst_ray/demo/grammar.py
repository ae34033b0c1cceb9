"""A closed-domain grammar of English and Finnish: things, places and people of a house, said and asked in templates.

A template is a sentence in both languages with the same slots; a meaning is a template with its slots filled. Finnish
forms are written out by hand. Word order differs where Finnish asks for it, the object's case follows the verb and its
negation, and the English `in the kitchen` becomes inessive or illative by what happens there: what a translator, and
a speech translation model, has to learn. No meaning shares its English or its Finnish sentence with another.
"""

import itertools
import math
import random
import string
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, NamedTuple


class Pair(NamedTuple):
    """One meaning in both languages, lower case, without punctuation."""

    en: str
    fi: str


@dataclass(frozen=True)
class Person:
    """Finnish: nominative, adessive (who has), allative (to whom)."""

    en: str
    fi: str
    has: str
    to: str


@dataclass(frozen=True)
class Thing:
    """Finnish: nominative, genitive (the whole object), partitive (after numbers and negation)."""

    en: str
    plural: str
    fi: str
    gen: str
    part: str


@dataclass(frozen=True)
class Adjective:
    """Finnish agrees with its noun: nominative, genitive, partitive."""

    en: str
    fi: str
    gen: str
    part: str

    @property
    def a(self) -> str:
        """With the English indefinite article."""
        return f"an {self.en}" if self.en[0] in "aeiou" else f"a {self.en}"


@dataclass(frozen=True)
class Place:
    """Finnish: where, where to, where from; inner cases for rooms (`in`), outer ones for surfaces (`on`)."""

    preposition: str
    en: str
    where: str
    to: str
    off: str

    @property
    def at(self) -> str:
        """In English: `in the kitchen`, `on the table`."""
        return f"{self.preposition} {self.en}"


@dataclass(frozen=True)
class Fixed:
    """A number or a time: one form a language."""

    en: str
    fi: str


PEOPLE: Final = (
    Person("the man", "mies", "miehellä", "miehelle"),
    Person("the woman", "nainen", "naisella", "naiselle"),
    Person("the boy", "poika", "pojalla", "pojalle"),
    Person("the girl", "tyttö", "tytöllä", "tytölle"),
    Person("the teacher", "opettaja", "opettajalla", "opettajalle"),
    Person("the doctor", "lääkäri", "lääkärillä", "lääkärille"),
    Person("my brother", "veljeni", "veljelläni", "veljelleni"),
    Person("my sister", "siskoni", "siskollani", "siskolleni"),
    Person("our neighbour", "naapurimme", "naapurillamme", "naapurillemme"),
)

THINGS: Final = (
    Thing("book", "books", "kirja", "kirjan", "kirjaa"),
    Thing("cup", "cups", "kuppi", "kupin", "kuppia"),
    Thing("key", "keys", "avain", "avaimen", "avainta"),
    Thing("lamp", "lamps", "lamppu", "lampun", "lamppua"),
    Thing("chair", "chairs", "tuoli", "tuolin", "tuolia"),
    Thing("bag", "bags", "laukku", "laukun", "laukkua"),
    Thing("box", "boxes", "laatikko", "laatikon", "laatikkoa"),
    Thing("hat", "hats", "hattu", "hatun", "hattua"),
    Thing("knife", "knives", "veitsi", "veitsen", "veistä"),
    Thing("bottle", "bottles", "pullo", "pullon", "pulloa"),
    Thing("coat", "coats", "takki", "takin", "takkia"),
    Thing("ball", "balls", "pallo", "pallon", "palloa"),
)

ADJECTIVES: Final = (
    Adjective("red", "punainen", "punaisen", "punaista"),
    Adjective("blue", "sininen", "sinisen", "sinistä"),
    Adjective("green", "vihreä", "vihreän", "vihreää"),
    Adjective("black", "musta", "mustan", "mustaa"),
    Adjective("white", "valkoinen", "valkoisen", "valkoista"),
    Adjective("big", "iso", "ison", "isoa"),
    Adjective("small", "pieni", "pienen", "pientä"),
    Adjective("old", "vanha", "vanhan", "vanhaa"),
    Adjective("new", "uusi", "uuden", "uutta"),
)

ROOMS: Final = (
    Place("in", "the kitchen", "keittiössä", "keittiöön", "keittiöstä"),
    Place("in", "the garden", "puutarhassa", "puutarhaan", "puutarhasta"),
    Place("in", "the bedroom", "makuuhuoneessa", "makuuhuoneeseen", "makuuhuoneesta"),
    Place("in", "the hall", "eteisessä", "eteiseen", "eteisestä"),
    Place("in", "the car", "autossa", "autoon", "autosta"),
    Place("in", "the shop", "kaupassa", "kauppaan", "kaupasta"),
    Place("in", "the school", "koulussa", "kouluun", "koulusta"),
    Place("in", "the library", "kirjastossa", "kirjastoon", "kirjastosta"),
    Place("in", "the cellar", "kellarissa", "kellariin", "kellarista"),
)

SURFACES: Final = (
    Place("on", "the table", "pöydällä", "pöydälle", "pöydältä"),
    Place("on", "the shelf", "hyllyllä", "hyllylle", "hyllyltä"),
    Place("on", "the floor", "lattialla", "lattialle", "lattialta"),
    Place("on", "the sofa", "sohvalla", "sohvalle", "sohvalta"),
)

NUMBERS: Final = (
    Fixed("two", "kaksi"),
    Fixed("three", "kolme"),
    Fixed("four", "neljä"),
    Fixed("five", "viisi"),
    Fixed("six", "kuusi"),
    Fixed("seven", "seitsemän"),
    Fixed("eight", "kahdeksan"),
)

PAST: Final = (
    Fixed("yesterday", "eilen"),
    Fixed("last week", "viime viikolla"),
    Fixed("last summer", "viime kesänä"),
    Fixed("this morning", "tänä aamuna"),
    Fixed("on monday", "maanantaina"),
    Fixed("on friday", "perjantaina"),
)

FUTURE: Final = (
    Fixed("tomorrow", "huomenna"),
    Fixed("tonight", "tänä iltana"),
    Fixed("next week", "ensi viikolla"),
    Fixed("on tuesday", "tiistaina"),
    Fixed("on saturday", "lauantaina"),
)

HABITS: Final = (
    Fixed("every day", "joka päivä"),
    Fixed("every morning", "joka aamu"),
    Fixed("every evening", "joka ilta"),
    Fixed("every week", "joka viikko"),
    Fixed("on sundays", "sunnuntaisin"),
)

Word = Person | Thing | Adjective | Place | Fixed

LEXICON: Final[dict[str, tuple[Word, ...]]] = {
    "who": PEOPLE,
    "whom": PEOPLE,
    "thing": THINGS,
    "adj": ADJECTIVES,
    "num": NUMBERS,
    "room": ROOMS,
    "place": ROOMS + SURFACES,
    "past": PAST,
    "future": FUTURE,
    "habit": HABITS,
}


@dataclass(frozen=True)
class Template:
    """A sentence in both languages; a slot `{thing.part}` is a form of a word of the lexicon."""

    en: str
    fi: str

    @cached_property
    def slots(self) -> tuple[str, ...]:
        names = [name.split(".")[0] for _, name, _, _ in string.Formatter().parse(self.en) if name]
        return tuple(dict.fromkeys(names))

    @cached_property
    def size(self) -> int:
        """Ways to fill the slots, those with a word twice among them."""
        return math.prod(len(LEXICON[slot]) for slot in self.slots)

    def fill(self, words: tuple[Word, ...]) -> Pair:
        """The meaning with these words in the order of `slots`."""
        filling = dict(zip(self.slots, words, strict=True))
        return Pair(self.en.format_map(filling), self.fi.format_map(filling))


TEMPLATES: Final = (
    # What is where, and who has what.
    Template("the {adj.en} {thing.en} is {place.at}", "{adj.fi} {thing.fi} on {place.where}"),
    Template("there are {num.en} {thing.plural} {place.at}", "{place.where} on {num.fi} {thing.part}"),
    Template(
        "there are {num.en} {adj.en} {thing.plural} {place.at}", "{place.where} on {num.fi} {adj.part} {thing.part}"
    ),
    Template("there is no {adj.en} {thing.en} {place.at}", "{place.where} ei ole {adj.part} {thing.part}"),
    Template("{who.en} has {adj.a} {thing.en}", "{who.has} on {adj.fi} {thing.fi}"),
    Template("{who.en} has {num.en} {adj.en} {thing.plural}", "{who.has} on {num.fi} {adj.part} {thing.part}"),
    Template("{who.en} does not have {adj.a} {thing.en}", "{who.has} ei ole {adj.part} {thing.part}"),
    # What somebody did, does, or is going to do.
    Template("{who.en} put the {adj.en} {thing.en} {place.at}", "{who.fi} laittoi {adj.gen} {thing.gen} {place.to}"),
    Template(
        "{who.en} took the {adj.en} {thing.en} from {place.en}", "{who.fi} otti {place.off} {adj.gen} {thing.gen}"
    ),
    Template("{who.en} gave the {adj.en} {thing.en} to {whom.en}", "{who.fi} antoi {whom.to} {adj.gen} {thing.gen}"),
    Template(
        "{who.en} bought {num.en} {adj.en} {thing.plural} {past.en}",
        "{who.fi} osti {past.fi} {num.fi} {adj.part} {thing.part}",
    ),
    Template("{who.en} saw {adj.a} {thing.en} {place.at}", "{who.fi} näki {place.where} {adj.gen} {thing.gen}"),
    Template("{who.en} did not find the {thing.en} {past.en}", "{past.fi} {who.fi} ei löytänyt {thing.part}"),
    Template("{who.en} is looking for {adj.a} {thing.en}", "{who.fi} etsii {adj.part} {thing.part}"),
    Template("{who.en} wants {adj.a} {thing.en}", "{who.fi} haluaa {adj.gen} {thing.gen}"),
    Template("{who.en} does not want {adj.a} {thing.en}", "{who.fi} ei halua {adj.part} {thing.part}"),
    Template(
        "{who.en} needs {num.en} {thing.plural} {future.en}", "{future.fi} {who.fi} tarvitsee {num.fi} {thing.part}"
    ),
    # Who goes where.
    Template("{who.en} goes to {room.en} {habit.en}", "{who.fi} menee {habit.fi} {room.to}"),
    Template("{who.en} came from {room.en} {past.en}", "{who.fi} tuli {past.fi} {room.off}"),
    Template("{who.en} will be {room.at} {future.en}", "{who.fi} on {future.fi} {room.where}"),
    Template("{who.en} was not {room.at} {past.en}", "{who.fi} ei ollut {past.fi} {room.where}"),
    # Commands.
    Template("put the {adj.en} {thing.en} {place.at}", "laita {adj.fi} {thing.fi} {place.to}"),
    Template("bring me the {adj.en} {thing.en} from {place.en}", "tuo minulle {adj.fi} {thing.fi} {place.off}"),
    Template("do not take the {adj.en} {thing.en} from {place.en}", "älä ota {adj.part} {thing.part} {place.off}"),
    Template("give the {adj.en} {thing.en} to {whom.en}", "anna {whom.to} {adj.fi} {thing.fi}"),
    Template("take {num.en} {thing.plural} to {room.en}", "vie {num.fi} {thing.part} {room.to}"),
    Template("look for the {adj.en} {thing.en} {room.at}", "etsi {adj.part} {thing.part} {room.off}"),
    # Questions.
    Template("is the {adj.en} {thing.en} {place.at}", "onko {adj.fi} {thing.fi} {place.where}"),
    Template("does {who.en} have {adj.a} {thing.en}", "onko {who.has} {adj.fi} {thing.fi}"),
    Template("where did {who.en} put the {adj.en} {thing.en}", "mihin {who.fi} laittoi {adj.gen} {thing.gen}"),
    Template("who took the {adj.en} {thing.en} from {place.en}", "kuka otti {adj.gen} {thing.gen} {place.off}"),
    Template(
        "how many {adj.en} {thing.plural} are there {place.at}",
        "kuinka monta {adj.part} {thing.part} {place.where} on",
    ),
    Template("when will {who.en} come to {room.en}", "milloin {who.fi} tulee {room.to}"),
)

SIZE: Final = sum(template.size for template in TEMPLATES)
# Between uniform over templates (rare words of the large ones) and uniform over meanings (three templates only).
_WEIGHTS: Final = tuple(math.sqrt(template.size) for template in TEMPLATES)


def pairs() -> Iterator[Pair]:
    """Every meaning once."""
    for template in TEMPLATES:
        for words in itertools.product(*(LEXICON[slot] for slot in template.slots)):
            if len(set(words)) == len(words):
                yield template.fill(words)


def draw(rng: random.Random) -> Pair:
    """A meaning at random. Nobody gives a thing to himself: a word that would stand in two slots is drawn again."""
    template = rng.choices(TEMPLATES, _WEIGHTS)[0]
    while True:
        words = tuple(rng.choice(LEXICON[slot]) for slot in template.slots)
        if len(set(words)) == len(words):
            return template.fill(words)
