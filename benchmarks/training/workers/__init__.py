"""One process a library: each reads orders as JSON lines and answers with what it measured in itself."""
