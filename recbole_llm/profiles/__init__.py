"""Preference reasoning of MLLMRec: descriptions of item images, then profiles of users.

Reference: "MLLMRec", section 4.1: Prompt 1 turns an image into text, Prompt 2 a user's training
items into a preference profile, and a sentence encoder makes features of both. See ``pipeline``
for the files that are written, ``audit`` for the proof that no held-out interaction was shown.
"""
