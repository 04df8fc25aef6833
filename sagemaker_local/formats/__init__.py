"""The formats that SageMaker's clients and S3 speak: links to the platform's own modules.

By them a wheel holds what it needs under its own name, and no package called `formats` lands in
other people's environments. The linked modules import each other relatively, so that they do under
both names.
"""
