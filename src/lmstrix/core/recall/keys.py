"""Names of keys: two rare words each, such as "vermilion ocelot", and their six-digit codes. Pure.

Within one haystack no word names two keys until the lists are used up (then pairs stay unique, words do not), and no
two codes share their first three digits until those are used up: a swap or a near miss can be told from a hit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

_FIRST = """
amber cobalt vermilion indigo scarlet turquoise magenta ochre umber cerulean viridian saffron mauve beige ebony
ivory lunar solar polar tidal nomad arctic coral crystal velvet marble granite quartz obsidian jade topaz opal
onyx garnet zircon pewter bronze chrome nickel titan radium carbon helium neon argon xenon plasma fractal cosmic
orbital stellar galactic nebula zenith nadir boreal austral alpine tundra savanna prairie delta lagoon fjord
glacier volcanic seismic thermal magnetic kinetic sonic gothic baroque cubist rustic feral regal noble humble
stoic jovial somber gleaming frosted gilded braided woven knitted twisted spiral hexagonal oblique vertical
bitter salty smoky peppery minty floral mossy leafy thorny silent roaring whistling humming drifting soaring
tumbling leaping prowling dozing gnarled brittle supple molten frozen misty thundering blazing radiant dusky
"""
_SECOND = """
ocelot narwhal falcon otter badger heron lynx puffin gecko iguana walrus panther jackal mongoose lemur tapir
bison moose ibex condor osprey kestrel toucan pelican flamingo cormorant albatross magpie raven stork plover
wombat platypus wallaby dingo koala marmot ferret weasel beaver hamster hedgehog salamander newt axolotl cobra
python viper mamba tortoise turtle crocodile alligator dolphin porpoise manatee orca squid octopus lobster
shrimp barnacle oyster scallop mussel jellyfish anemone starfish urchin sturgeon trout salmon halibut marlin
barracuda piranha mantis cricket locust beetle weevil hornet dragonfly butterfly firefly scorpion tarantula
centipede juniper cypress willow sequoia magnolia hawthorn rowan acacia baobab mangrove bamboo cactus orchid
lotus thistle anvil bellows lantern trident gauntlet scepter chalice obelisk pagoda citadel bastion turret
catapult zeppelin galleon schooner kayak sledge harpoon sextant abacus metronome
"""
FIRST_WORDS = tuple(_FIRST.split())
SECOND_WORDS = tuple(_SECOND.split())


class KeyedCode(NamedTuple):
    """A key and the code planted for it."""

    key: str
    code: str


def keyed_codes(rng: random.Random) -> Iterator[KeyedCode]:
    """An endless stream of pairs in which no key and no code comes twice."""
    firsts = rng.sample(FIRST_WORDS, len(FIRST_WORDS))
    seconds = rng.sample(SECOND_WORDS, len(SECOND_WORDS))
    heads: list[int] = []
    seen: set[str] = set()
    index = 0
    while True:
        # Each round through the shorter list shifts the pairing by one, so a pair comes back only after all are used.
        turn, place = divmod(index, min(len(firsts), len(seconds)))
        if not heads:
            heads = rng.sample(range(100, 1000), 900)
        code = f"{heads.pop()}{rng.randrange(1000):03d}"
        if code not in seen:
            seen.add(code)
            index += 1
            yield KeyedCode(f"{firsts[place]} {seconds[(place + turn) % len(seconds)]}", code)
