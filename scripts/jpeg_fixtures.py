"""Writes the JPEG files that the tests of pictures read: `jpeg_fixtures.py FOLDER`. Needs Pillow.

One picture of 27 × 19 pixels: `progressive.jpg`, with ten scans, colours at half the size, and `restart.jpg`, with a
restart marker after every unit.
"""

import pathlib
import random
import sys

from PIL import Image

folder = pathlib.Path(sys.argv[1])
random.seed(1)
picture = Image.new("RGB", (27, 19))
for y in range(19):
    for x in range(27):
        blue = random.randrange(60) + x * 4 + y * 5
        picture.putpixel((x, y), ((x * 13 + y * 7) % 256, (x * x * 3 + y * 29) % 256, blue % 256))
picture.save(folder / "progressive.jpg", quality=60, progressive=True, subsampling=2)
picture.save(folder / "restart.jpg", quality=50, subsampling=0, restart_marker_blocks=1)
