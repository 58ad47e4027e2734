print "python two, and celery"
