"""Campaigns: one verb over thousands of structures, on many machines.

``campaign`` is what verbs call. ``works`` says what each verb does with a part of the
structures, ``worker`` does it in a process of its own, ``loop`` hands parts to whatever
executes them, ``ledger`` keeps what is done, and ``ray_pool`` is the only module that
knows Ray.
"""
