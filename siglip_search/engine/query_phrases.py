"""What people ask of their pictures: the queries with which two precisions of a model are compared.

Everyday words, from one noun to a short sentence, over what private collections hold. Which of them
a collection can answer does not matter: what is compared is whether both answer alike.
"""

from __future__ import annotations

from typing import Final

# A paragraph a theme, so that what is missing can be seen.
_THEMES: Final = """
a dog; a black dog on grass; a puppy asleep; two dogs playing; a cat; a cat at the window; a
kitten in a basket; a horse in a field; cows in a meadow; sheep on a hill; a bird on a branch; a
duck on the water; a butterfly on a flower; a spider's web; an aquarium; a snail after rain; an
elephant; a giraffe at the zoo

a baby; a child laughing; children on a swing; a birthday cake with candles; a family at the
table; a wedding; the bride and the groom; a portrait of an old man; a woman with sunglasses; a
man with a beard; a group of friends; people dancing; somebody asleep on a sofa; a selfie in a
mirror; a crowd at a concert; a school class; grandmother in the kitchen; hands of a baby; a
person with an umbrella

the beach; a sunset over the sea; waves on rocks; a sailing boat; a harbour with boats; a
lighthouse; a river in the forest; a waterfall; a lake in the mountains; snow on mountains; a
glacier; a desert; a volcano; a cave; a cliff by the ocean; an island from above; a foggy morning;
autumn leaves; a field of sunflowers; cherry blossom; a palm tree; a meadow with wild flowers; a
rainbow; lightning at night; the full moon; stars in the night sky; northern lights; clouds from
an aeroplane window

a street at night; a skyline with tall buildings; a narrow lane in an old town; a market with
fruit; a church; the inside of a cathedral; a castle; a temple; a bridge over a river; a railway
station; an airport; a fountain in a square; a staircase; a red door; a window with flowers; a
neon sign; graffiti on a wall; a building site; a farm; a windmill; a ruin; a statue; a museum; a
playground; a swimming pool; a fairground at night

a red bicycle; a row of bicycles; an old car; a yellow taxi; a bus in the city; a motorbike; a
steam train; a tram; an aeroplane on the ground; a hot-air balloon; a helicopter; a lorry; a
tractor; a fire engine; a caravan; a canoe on a lake; a ferry; a traffic jam; a road through the
desert; a car in the snow

a cup of coffee; a glass of red wine; a pizza; sushi on a plate; a bowl of soup; pancakes for
breakfast; a hamburger and chips; fresh bread; a salad; a barbecue in the garden; ice cream; a
chocolate cake; bananas; a basket of apples; strawberries; vegetables at the market; a set table;
a restaurant menu; a bottle of beer; a picnic in the park

a football match; somebody running; a climber on a rock; a skier on a slope; people playing
tennis; a swimmer; a surfer on a wave; hikers on a path; a campfire; a tent under the stars; a
chess board; a guitar; a piano; a drum kit; fireworks; a Christmas tree; a carved pumpkin; Easter
eggs; a carnival costume; a birthday party with balloons

a receipt; a handwritten letter; a page of a book; a whiteboard with notes; a screenshot of a
chat; a map; a passport; a ticket; a bar code; a diagram; a computer on a desk; a mobile phone; a
broken screen; a bookshelf; an unmade bed; a kitchen; a bathroom; an empty room; a garden with a
bench; a house in the snow; a cardboard box; shoes by the door; a clock; a camera; a pair of
glasses; a ring; a dress on a hanger; toys on the floor; a toolbox; plants on a window sill

something red; a blue wall; black and white; a silhouette against the light; a reflection in
water; a blurred picture; very close up; seen from above; at night; in the rain; a drawing; a
painting of a landscape; a pattern of tiles; shadows on the ground; smoke; an abstract shape
"""

PHRASES: Final = tuple(
    " ".join(phrase.split()) for theme in _THEMES.split("\n\n") for phrase in theme.split(";")
)
"""About two hundred English queries, each once."""
