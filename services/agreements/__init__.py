"""Agreements keeps commercial contracts, each as a log of edits that only grows.

What an agreement is at one time, by what was known at another, is a pure fold of its log. Nothing else is stored of it.
"""
