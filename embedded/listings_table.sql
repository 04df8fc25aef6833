-- The source table of the listings pipeline: a row for each listing and day of download.
-- Columns are those of Inside Airbnb's summary files, of all their versions since 2015; a column
-- that a file does not have is NULL for that day.
CREATE TABLE IF NOT EXISTS listings (
    id bigint NOT NULL,
    name text,
    host_id bigint,
    host_profile_id text,
    host_name text,
    neighbourhood_group text,
    neighbourhood text,
    latitude double precision,
    longitude double precision,
    room_type text,
    price double precision,
    minimum_nights integer,
    number_of_reviews integer,
    last_review date,
    reviews_per_month double precision,
    calculated_host_listings_count integer,
    availability_365 integer,
    number_of_reviews_ltm integer,
    license text,
    download_date date NOT NULL,
    PRIMARY KEY (download_date, id)
);
