"""What binds an answer to a form, and calls of tools."""
