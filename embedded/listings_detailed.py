"""The columns of Inside Airbnb's detailed file that its summary file never had, of any year.

From its data dictionary and the headers of published files, 2015 to 2026.
"""

DETAILED_ONLY = frozenset(
    {
        "listing_url", "scrape_id", "last_scraped", "source", "summary", "space", "description",
        "experiences_offered", "neighborhood_overview", "notes", "transit", "access", "interaction",
        "house_rules", "thumbnail_url", "medium_url", "picture_url", "xl_picture_url", "host_url",
        "host_profile_url", "host_since", "host_location", "host_about", "host_response_time",
        "host_response_rate", "host_acceptance_rate", "host_is_superhost", "host_thumbnail_url",
        "host_picture_url", "host_neighbourhood", "host_listings_count",
        "host_total_listings_count", "host_verifications", "host_has_profile_pic",
        "host_identity_verified", "hosts_time_as_user_years", "hosts_time_as_user_months",
        "hosts_time_as_host_years", "hosts_time_as_host_months", "street", "neighbourhood_cleansed",
        "neighbourhood_group_cleansed", "city", "state", "zipcode", "market", "smart_location",
        "country_code", "country", "is_location_exact", "property_type", "accommodates",
        "bathrooms", "bathrooms_text", "bedrooms", "beds", "bed_type", "amenities", "square_feet",
        "weekly_price", "monthly_price", "security_deposit", "cleaning_fee", "guests_included",
        "extra_people", "maximum_nights", "minimum_minimum_nights", "maximum_minimum_nights",
        "minimum_maximum_nights", "maximum_maximum_nights", "minimum_nights_avg_ntm",
        "maximum_nights_avg_ntm", "calendar_updated", "has_availability", "availability_30",
        "availability_60", "availability_90", "availability_eoy", "calendar_last_scraped",
        "number_of_reviews_l30d", "number_of_reviews_ly", "estimated_occupancy_l365d",
        "estimated_revenue_l365d", "first_review", "review_scores_rating", "review_scores_accuracy",
        "review_scores_cleanliness", "review_scores_checkin", "review_scores_communication",
        "review_scores_location", "review_scores_value", "requires_license", "jurisdiction_names",
        "instant_bookable", "is_business_travel_ready", "cancellation_policy",
        "require_guest_profile_picture", "require_guest_phone_verification",
        "calculated_host_listings_count_entire_homes",
        "calculated_host_listings_count_private_rooms",
        "calculated_host_listings_count_shared_rooms",
    }
)  # fmt: skip
