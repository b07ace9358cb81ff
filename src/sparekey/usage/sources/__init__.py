"""The usage sources: one module each, found by its name; each has `read(spec, keys, request)`."""
