"""Stores of released attribution packages, read without unpickling and with their scale, sign and unit undone."""

from trak_theory.auditing.stores.contents import Member, Store
from trak_theory.auditing.stores.recognition import recognise
from trak_theory.errors import StoreError

__all__ = ["Member", "Store", "StoreError", "recognise"]
