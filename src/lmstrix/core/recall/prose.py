"""Endless varied prose about a small imaginary district, from a seed. Pure.

Method: a small grammar. A sentence form is drawn and each `{slot}` is filled from a list, never with one of the slot's
last few fillings. Hundreds of millions of sentences are possible, so a model cannot lean on repetition, as it can when
one sentence fills the context. The prose holds no digits and none of the rare words that name keys: every number and
every key in a haystack was planted. Traded away: coherence from one sentence to the next.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

_LISTS = {
    "name": """
        Marta Henrik Aisha Tomas Ingrid Pavel Noor Felix Greta Samuel Yuki Carlos Edith Omar Lucia Anton Priya
        Walter Selma Hugo Bianca Dmitri Nadia Oscar Judith Rafael Helga Simon Amara Viktor Clara Jonas Leila Arthur
        Petra Miguel Sofia Bernard Hanna Elias
    """,
    "place": """
        harbour | old mill | market square | railway station | town library | observatory | north bridge | glass
        factory | river ferry | village school | botanical garden | lighthouse | city archive | brick bakery |
        concert hall | upper valley | fishing pier | weather station | stone chapel | post office | south gate |
        mountain hut | printing house | canal lock | apple orchard | town hall | boat yard | museum | quarry |
        theatre
    """,
    "job": """
        carpenter teacher captain gardener baker mechanic painter doctor clerk farmer pilot tailor nurse miner
        librarian surveyor cook printer driver musician potter translator watchmaker postman
    """,
    "thing": """
        letter map ladder clock basket mirror motor violin blanket bottle drawing kettle notebook rope window box
        table wheel candle parcel compass radio coat telescope bicycle carpet hammer painting barrel suitcase bell
        recipe
    """,
    "adjective": """
        small heavy quiet bright broken narrow warm bare strange handy worn clean famous patient careful wooden
        plain long pale dusty round simple sturdy familiar costly hidden curious cheap slow modest
    """,
    "did": """
        repaired carried found painted sold measured described borrowed returned forgot opened hid photographed
        cleaned lost moved noticed bought weighed wrapped lifted delivered replaced copied examined kept
    """,
    "went": """
        walked travelled hurried drove cycled rowed wandered returned climbed ran
    """,
    "when": """
        in the morning | after lunch | before sunset | on Monday | on Thursday | late in the evening | during the
        storm | at the end of winter | in early spring | one week later | on the first day of the fair | shortly
        after midnight | in a dry summer | the day before | that same afternoon | when the rain stopped | at dawn |
        in November | in the month of May | while the others slept
    """,
    "how": """
        slowly | carefully | without a word | with great care | in silence | almost at once | for no clear reason |
        with a smile | as usual | with some effort | against all advice | quite suddenly | by mistake | with both
        hands | twice | in a hurry
    """,
    "said": """
        said wrote explained insisted admitted promised remembered claimed repeated suspected
    """,
    "weather": """
        the fog lifted | snow covered the roofs | the wind turned to the west | heavy clouds gathered | the river
        rose | the streets were dry | the frost came early | a warm rain fell | the moon was hidden | the ice began
        to melt
    """,
    "group": """
        two sailors | a group of students | several neighbours | the night guards | three visitors from the coast |
        the members of the choir | a few travellers | the workers of the mill | some children | the older residents
    """,
    "matter": """
        the price of salt | the new timetable | a missing ticket | the history of the bridge | the next election |
        the quality of the water | a long voyage | the repair of the roof | a long quarrel | the colour of the doors
        | the music of the festival | the harvest | the shape of the coast | a cure for colds
    """,
    "because": """
        because the road was closed | because nobody else wanted it | since the boat was late | as the lamp had gone
        out | because the map was wrong | since there was little time left | because the bell had rung | as everyone
        expected
    """,
    "feeling": """
        surprised tired pleased worried proud calm hungry relieved doubtful cheerful nervous grateful
    """,
    "material": """
        copper wool oak paper clay glass iron silk stone leather tin straw
    """,
    "creature": """
        horse dog goat sparrow cat donkey hen goose
    """,
    "food": """
        bread soup cheese honey tea fish apples rice onions butter plums coffee
    """,
    "amount": """
        one two three four five six seven eight nine ten eleven twelve twenty thirty forty fifty
    """,
}

_FORMS = (
    "{name} {did} the {adjective} {thing} {when}.",
    "{When}, {name} {did} a {thing} near the {place}.",
    "The {job} from the {place} {said} that the {thing} was {adjective}.",
    "{name} and {name} {went} to the {place} {how}.",
    "Nobody at the {place} knew why {name} {did} the {thing}.",
    "{When}, {weather}, and {name} {went} back to the {place}.",
    "{Group} talked about {matter} until {weather}.",
    "It was {adjective} work, but the {job} {did} every {thing} {how}.",
    "At the {place}, {group} sold {food}, {food} and {food}.",
    '"{Matter} can wait," {said} {name}, who was {feeling}.',
    "The {thing} was made of {material} and had once belonged to a {job}.",
    "{name} {went} past the {place} {because}.",
    "There were {amount} chairs in the {place}, all of them {adjective}.",
    "The {creature} of the {job} slept beside the {thing} {when}.",
    "For {amount} years the {place} had been run by a {adjective} {job}.",
    "{name} asked the {job} about {matter}, then {did} the {thing}.",
    "Although {weather}, {group} {went} to the {place} {when}.",
    "If the {thing} is {adjective}, {name} {said}, it must come from the {place}.",
    "The letter to {name} mentioned {matter}, {matter} and a {adjective} {thing}.",
    "{name} was {feeling} {because}.",
    "Between the {place} and the {place} stood a {adjective} house of {material}.",
    "A {job} named {name} {did} {amount} bags of {food} {when}.",
    "What the {job} liked most was the {thing} in the window of the {place}.",
    "{When}, the {creature} was seen near the {place} again.",
    "{name} never {said} how the {thing} came to the {place}.",
    "The {place} smelled of {food} and {material} {when}.",
    "Only {name} remembered that {weather} {when}.",
    "First the {job} {did} the {thing}; then {group} {went} home {how}.",
    "Every {thing} in the {place} was {adjective}, {because}.",
    "{Group} were {feeling} when {name} {did} the {thing}.",
    "People {said} that {matter} mattered more than {food}.",
    "The road to the {place} is {adjective}, and {group} rarely use it {when}.",
    "{name} learned to work with {material} from a {feeling} {job}.",
    "After {amount} days, the {thing} was still at the {place}.",
    "{name} paid for the {food} with a {adjective} {thing}.",
    "Who {did} the {thing} at the {place}, asked {name} {how}.",
)

_SLOT = re.compile(r"\{(\w+)\}")
_RECENT = 4  # how many last draws of a slot are not drawn again


def _choices(listed: str) -> tuple[str, ...]:
    """The entries of a list: phrases between bars, or else single words."""
    entries = listed.split("|") if "|" in listed else listed.split()
    return tuple(" ".join(entry.split()) for entry in entries)


_WORDS = {slot: _choices(words) for slot, words in _LISTS.items()}
_PIECES = tuple(tuple(_SLOT.split(form)) for form in _FORMS)


class Prose:
    """Sentences drawn from `rng`, one after another; the same state of `rng` gives the same sentences."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._recent: dict[str, list[str]] = {}

    def _draw(self, slot: str) -> str:
        recent = self._recent.setdefault(slot, [])
        words = _WORDS[slot]
        # Not `choice`, which is several times slower: a long haystack draws hundreds of thousands of words.
        word = words[int(self._rng.random() * len(words))]
        while word in recent:
            word = words[int(self._rng.random() * len(words))]
        recent.append(word)
        del recent[:-_RECENT]
        return word

    def sentence(self) -> str:
        """The next sentence, with its full stop and no space around it."""
        pieces = _PIECES[int(self._rng.random() * len(_PIECES))]
        filled = list(pieces)
        for index in range(1, len(pieces), 2):  # odd pieces are slot names; a capital asks for a capital
            slot = pieces[index]
            word = self._draw(slot.lower())
            filled[index] = word[0].upper() + word[1:] if slot[0].isupper() else word
        return "".join(filled)

    def __iter__(self) -> Iterator[str]:
        while True:
            yield self.sentence()


def all_words() -> frozenset[str]:
    """Every lower-case word the prose can use (a key word must not be among them)."""
    text = " ".join(_FORMS) + " " + " ".join(" ".join(words) for words in _WORDS.values())
    return frozenset(re.findall(r"[a-z]+", _SLOT.sub(" ", text).lower()))
