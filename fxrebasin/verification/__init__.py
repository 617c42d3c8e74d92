"""Does a module still compute what it computed, and does a group hold?"""
