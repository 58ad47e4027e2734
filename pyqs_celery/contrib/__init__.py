"""Optional parts: for Django, and for tests of applications."""
