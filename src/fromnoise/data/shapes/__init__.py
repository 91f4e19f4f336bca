"""The data ``shapes``: captions, random scenes and their drawing."""
