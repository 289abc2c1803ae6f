"""Names for containers that were given none: an adjective and the name of a harbour, a river or a lake."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from wherry.model.errors import Full

ADJECTIVES = (
    "able amber ample azure balmy bold brave breezy bright brisk calm candid cheery clear clever "
    "cosy crisp curious daring deft dusky eager early easy fair famous fancy fleet fond frank free "
    "fresh gentle glad golden grand green happy hardy hazel hearty honest humble jolly keen kind "
    "late level light lively lucid lucky mellow merry mild misty modest neat nimble noble open "
    "patient placid plain plucky polite proud prudent quick quiet ready rosy round royal ruddy "
    "serene sharp shiny silent silver simple sleek smooth snug sober solid spry stable steady still "
    "stout sunny swift tender tidy trim trusty upbeat vivid warm wise witty young zesty"
).split()
PLACES = (
    "aare adur amur annecy arno avon baikal balaton bergen bristol bude cadiz callao camel cardiff "
    "clyde como conwy cork corfu cowes dart deal dnieper dover douro drava ebro elbe erie exe falmouth "
    "fal forth fowey galway ganges garda geneva genoa ghent gironde hamble helford huron hull humber "
    "indus inari itchen izmir jura kiel kura ladoga lagos lena lisbon loire lomond lugano main malta "
    "medway mersey meuse mosel mumbles naples neckar ness niger nile oban oder odessa ohio onega "
    "orwell ostend ouse padstow penryn plym po poole porto prut rhine rhone riga rye saale salcombe "
    "sava seine severn shannon sligo solent spey stour tagus tamar tay tees thames tiber torquay "
    "trent tweed tyne ure varna vltava volga wear weser wharfe whitby yare yarmouth york zambezi"
).split()
_TRIES = 8


def random_name(taken: Callable[[str], bool]) -> str:
    """Return a name for which `taken` answers False; digits follow where the plain ones are used up."""
    for attempt in range(1000):
        name = f"{secrets.choice(ADJECTIVES)}_{secrets.choice(PLACES)}"
        if attempt >= _TRIES:
            name += str(secrets.randbelow(10 ** (attempt // _TRIES)))
        if not taken(name):
            return name
    raise Full("no free container name was found", hint="give one with --name")
