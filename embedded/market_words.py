"""The words of the generated listings market: names of listings, hosts and neighbourhoods.

Among them stand those that careless programs break; what looks wrong here is meant.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

# Amsterdam's, as Inside Airbnb names them, with the middle of each; busy ones first.
AREAS: tuple[tuple[str, float, float], ...] = (
    ("De Baarsjes - Oud-West", 52.3671, 4.8666),
    ("Centrum-West", 52.3744, 4.8880),
    ("De Pijp - Rivierenbuurt", 52.3497, 4.8965),
    ("Centrum-Oost", 52.3683, 4.9020),
    ("Zuid", 52.3506, 4.8720),
    ("Westerpark", 52.3853, 4.8740),
    ("Oud-Oost", 52.3590, 4.9200),
    ("Bos en Lommer", 52.3790, 4.8480),
    ("Oostelijk Havengebied - Indische Buurt", 52.3640, 4.9410),
    ("Oud-Noord", 52.3890, 4.9130),
    ("Watergraafsmeer", 52.3520, 4.9340),
    ("IJburg - Zeeburgereiland", 52.3570, 4.9960),
    ("Slotervaart", 52.3600, 4.8330),
    ("Noord-West", 52.4100, 4.8950),
    ("Noord-Oost", 52.3960, 4.9560),
    ("Buitenveldert - Zuidas", 52.3320, 4.8730),
    ("Geuzenveld - Slotermeer", 52.3790, 4.8030),
    ("Osdorp", 52.3590, 4.7900),
    ("De Aker - Nieuw Sloten", 52.3440, 4.7950),
    ("Gaasperdam - Driemond", 52.3000, 4.9850),
    ("Bijlmer-Centrum", 52.3140, 4.9500),
    ("Bijlmer-Oost", 52.3220, 4.9760),
)

_FIRST = (
    "Sunny", "Quiet", "Cosy", "Spacious", "Charming", "Modern", "Lovely", "Stylish", "Bright",
    "Romantic", "Unique", "Luxury", "Tiny", "Historic", "Family", "Artist's",
)  # fmt: skip
_KIND = (
    "apartment", "studio", "houseboat", "canal house", "loft", "room with a view", "garden flat",
    "penthouse", "B&B", "attic", "townhouse", "ground floor",
)  # fmt: skip
_LAST = (
    "near Vondelpark", "in the centre", "by the canal", "with terrace", "with roof garden",
    "close to RAI", "for 4 people", "10 min from Central Station", "(free bikes!)", "& sauna",
)  # fmt: skip
_HOSTS = (
    "Daniel", "Martijn", "Willem", "Sophie", "Anna", "Laura", "Thomas", "Joris", "Eva & Tom",
    "Zoë", "Renée", "François", "Jürgen", "Ana María", "Łukasz", "Олег", "美咲", "محمد",
    "Bed, Bike & More", "Stay \"Inn\" Amsterdam",
)  # fmt: skip

# By place; every day has each of them about twenty times.
_ODD_NAMES: dict[int, str | None] = {
    0: "Bright loft\nwith two bedrooms\nand a view",
    1: 'The "Little" house, near "De Pijp"',
    2: "Canal, garden, and bikes, all yours",
    3: "🌷 Tulip flat 🚲 for 2️⃣ 👩‍❤️‍👨",
    4: "  Two spaces before and after  ",
    5: "",
    6: None,
    7: "=Monumental apartment= +2 rooms",
    8: ".",
    9: "#NAME?",
    30: "@home in Amsterdam",
    31: "+31 rooms with a view",
    32: "-50% off the whole week",
    33: 'Back\\slash, \'single\' and ""doubled"" quotes',
    34: "Windows line\r\nend and a\ttab",
    35: "NULL",
    36: "\\N",
    37: "\\.",
    38: "nan",
    39: "e\u0301 is é in two parts; \u00a0 does not break",
}
_ODD_HOSTS: dict[int, str | None] = {0: "Na", 1: "Nan", 2: None, 3: "", 4: "None", 5: "null"}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def names(first: Floats, second: Floats, area: Ints, odd: Ints) -> list[str | None]:
    """Names of listings; `odd` is a listing's place among the oddities."""
    return [
        _ODD_NAMES[place] if place in _ODD_NAMES else _name(float(a), float(b), index)
        for a, b, index, place in zip(first, second, area.tolist(), odd.tolist(), strict=True)
    ]


def host_names(dice: Floats, odd: Ints) -> list[str | None]:
    """Names of hosts; the same dice make the same name."""
    return [
        _ODD_HOSTS[place] if place in _ODD_HOSTS else _choice(_HOSTS, value)
        for value, place in zip(dice.tolist(), odd.tolist(), strict=True)
    ]


def license_number(number: int) -> str:
    """As Amsterdam writes them: 0363 and four blocks of four."""
    digits = f"{number * 4093 % 16**16:016X}"
    return " ".join(["0363", *(digits[at : at + 4] for at in range(0, 16, 4))])


def _name(first: float, second: float, area: int) -> str:
    kind = _choice(_KIND, first * len(_FIRST) % 1)
    where = AREAS[area][0] if second < 0.2 else _choice(_LAST, second * 7 % 1)
    return f"{_choice(_FIRST, first)} {kind} {where}"


def _choice(words: Iterable[str], dice: float) -> str:
    choices = tuple(words)
    return choices[int(dice * len(choices))]
