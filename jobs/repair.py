"""The button that repairs dates of the listings: what it does is in platform_assets/repairs.py."""

from platform_assets.airbnb.listings_chain import ASSETS, checks_at_once
from platform_assets.repairs import build_repair_job

repair = build_repair_job("repair", ASSETS, of_what="the listings", checks_at_once=checks_at_once)
