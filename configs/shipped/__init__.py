"""Configs of the weights that ship with the package."""
