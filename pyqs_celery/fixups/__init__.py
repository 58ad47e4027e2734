"""What an application gets because of the framework it lives in."""
