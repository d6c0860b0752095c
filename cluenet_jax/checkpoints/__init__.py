"""What a saved step is made of on a disk or in a bucket, and whether it is whole."""
