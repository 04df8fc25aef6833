"""When things happen: jobs, schedules and sensors, one file a domain. What exists is elsewhere.

What would hold of all jobs at once is set where they are put together:
`platform_assets/definitions.py`.
"""
