"""The module of the command, as a name in Python."""


def test_the_name_in_python_stays_the_function():
    import wdsr_jax.upscale
    from wdsr_jax.inference import tiles

    assert wdsr_jax.upscale is tiles.upscale
