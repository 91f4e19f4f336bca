"""Folders of images: listing, splits and classes, decoding."""
