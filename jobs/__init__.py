"""When things happen: jobs, schedules and sensors, one file a domain. What exists is elsewhere."""
