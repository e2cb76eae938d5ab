"""What traffic says of the near future, and of other sizes of the cache. No torch below this folder."""
