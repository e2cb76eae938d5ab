"""How adapters come into the store over HTTP, and how the server holds what it uses."""
