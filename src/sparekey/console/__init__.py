"""The page to work in: it renders and parses, nothing else; every verb is a function of `sparekey.app`."""
