"""What `foreshock bench` measures: worth, not speed."""
