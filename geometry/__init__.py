"""Cameras, correspondences between views, and the equirectangular panorama. No host, no attention: plain torch, and
Pillow where cameras are drawn and pictures read, resized and written.

Conventions of the whole package, stated once:

- Camera axes are OpenCV's: x right, y down, z forward. Poses are camera-to-world. World axes are those of a camera
  with yaw 0 and pitch 0, so world "up" is -y and longitude 0 is +z.
- Yaw turns to the right and pitch up; both are in degrees where a name ends in `_deg`, else in radians.
- View pixels have their centres at integers: the centre of a w-wide image is (w - 1) / 2. A point is (x, y).
- The focal length is (w / 2) / tan(fov / 2) pixels for a horizontal field of view.
- An equirectangular panorama is twice as wide as high and its pixel centres stand at (i + 0.5) / width. Longitude 0 is
  in the middle and grows to the right, latitude +90 degrees is above the top row; column width - 1 and column 0 are
  neighbours.
- A matrix named `a_from_b` takes b's coordinates to a's, so that products read as chains.
- Geometry is float64 on the CPU; between pictures, its last products over pixels are float32 on the pictures' device.
- Pictures are (batch, height, width, channels) in 0..1, computed in float32.
"""
