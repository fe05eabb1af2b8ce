"""Measuring networks on sets of images."""
