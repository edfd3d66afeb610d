"""The stages of the pipeline, one module each: folders in, a few library calls, folders out."""
