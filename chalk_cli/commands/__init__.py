"""One module a noun: options, one call, one render."""
