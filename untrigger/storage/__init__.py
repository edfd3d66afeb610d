"""The object store: files, bundles of them, and servers for one machine."""
