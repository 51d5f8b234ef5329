"""The intermediate representation; imports only the standard library and numpy."""
