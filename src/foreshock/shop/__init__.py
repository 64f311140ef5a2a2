"""A shop of microservices that lives, and in which things break."""
