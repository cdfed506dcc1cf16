"""The only room that imports torch; everything else works without it."""
