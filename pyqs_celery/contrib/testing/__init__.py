"""For the tests of applications: a worker in a thread, and applications that know no real broker."""
