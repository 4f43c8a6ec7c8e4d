"""Drawn pictures with exact truth, each a pure function of a seed and its number.

`objects` says what can be in a picture, `shapes` which pixels it covers, `layout` where it stands, `drawing` how it
looks, `wording` what can truly be said and asked of it, `edits` how it can change, `pictures` where its file lies.
"""

from dataengine.scenes.pictures import write

__all__ = ["write"]
