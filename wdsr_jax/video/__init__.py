"""Videos: decoded, upscaled, encoded."""
